"""The optimizer and its parameter groups."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from vla.conf.stage import StageConfig
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)


def parameter_owners(model: BaseModel) -> dict[str, str]:
    """Module group of every parameter and buffer by its name in `model.state_dict()`; tied ones are listed once."""
    owners = {
        id(tensor): group
        for group, module in model.module_groups().items()
        for tensor in (*module.parameters(), *module.buffers())
    }
    named: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in owners:
            named.setdefault(id(tensor), name)
    return {name: owners[key] for key, name in named.items()}


def lr_scale(rule: str, world_size: int) -> float:
    """Factor of the learning rate for `world_size` processes: 1 (none), the number (linear) or its root (sqrt)."""
    return {"none": 1.0, "linear": float(world_size), "sqrt": world_size**0.5}[rule]


def freeze_multiplied_by_zero(model: BaseModel, stage: StageConfig) -> list[str]:
    """Freeze the module groups whose learning-rate multiplier is 0; returns their names.

    Nothing would change them; frozen they take no gradient either, and what they compute can be cached.
    """
    groups = [name for name, factor in stage.lr_multipliers.items() if factor == 0 and name in stage.trained_groups]
    for name in groups:
        model.module_groups()[name].requires_grad_(False)
        overwatch.warning(f"{name} does not train: its learning-rate multiplier is 0")
    model.frozen_groups = model.frozen_groups | set(groups)
    return groups


def is_decayed(name: str, parameter: nn.Parameter, decay_norms_and_biases: bool) -> bool:
    """Whether weight decay applies: by default not to biases, norms and other tensors of at most one dimension."""
    return decay_norms_and_biases or (parameter.ndim > 1 and not name.endswith(".bias"))


def parameter_groups(model: BaseModel, stage: StageConfig, owners: dict[str, str], scale: float) -> list[dict]:
    """Trainable parameters by module group and by whether they decay.

    Returns:
        Groups for a torch optimizer: `params`, `names` (of `params`, in order), `module_group`, `initial_lr`, `lr`,
        `weight_decay`.

    Raises:
        UserError: nothing trains.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in _trainable(model):
        owner = owners[name]
        decayed = is_decayed(name, parameter, stage.optimizer.decay_norms_and_biases)
        rate = stage.learning_rate * scale * stage.lr_multipliers.get(owner, 1.0)
        group = groups.setdefault(
            (owner, decayed),
            {
                "params": [], "names": [], "module_group": owner, "initial_lr": rate, "lr": rate,
                "weight_decay": stage.weight_decay if decayed else 0.0,
            },
        )  # fmt: skip
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise UserError(f"nothing trains: every parameter of {', '.join(stage.trainable)} is frozen")
    return list(groups.values())


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def get_optimizer(model: BaseModel, stage: StageConfig, owners: dict[str, str], world_size: int = 1) -> Optimizer:
    """AdamW or SGD over the trainable parameters of `model`, which must already be sharded.

    Args:
        owners: `parameter_owners(model)` before sharding.
        world_size: for `stage.lr_scaling`; a learning rate that it changes is announced.
    """
    scale = lr_scale(stage.lr_scaling, world_size)
    if scale != 1:
        overwatch.warning(
            f"learning rate {stage.learning_rate:g} is scaled by {scale:g} ({stage.lr_scaling}, {world_size} processes)"
            f" to {stage.learning_rate * scale:g}"
        )
    groups, config = parameter_groups(model, stage, owners, scale), stage.optimizer
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=stage.learning_rate, momentum=config.momentum, nesterov=config.nesterov)
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=config.betas, eps=config.eps)
