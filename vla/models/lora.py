"""LoRA: adapters of peft's in a model's linear layers, and adding them to what they adapt."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from vla.conf.models.lora import ALL_LINEAR, LoRAConfig
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.torchvision_shim import prepare_torchvision

OUTPUT_LAYER = "lm_head"
MARK, BASE = ".lora_", ".base_layer."  # in names of adapters' parameters, and of what they adapt


def add_lora(model: BaseModel, config: LoRAConfig) -> None:
    """
    Put adapters into a model, in place; from now on they train where a stage trains their module group.

    Adapters change nothing at first. Names of the parameters that they adapt get `.base_layer` in them.

    Args:
        model: Whole, with its weights; on any device, meta included.
        config: Of rank > 0.

    Raises:
        UserError: peft is not installed, or nothing is there to adapt.
    """
    if find_spec("peft") is None:
        raise UserError(f"model.lora.rank: {config.rank} needs peft: pip install .[lora], or pass --model.lora.rank 0")
    prepare_torchvision()
    from peft import LoraConfig, inject_adapter_in_model

    names = _layers_to_adapt(model, config)
    own = model.parameters_beside_adapters()
    options: dict[str, Any] = {
        "r": config.rank, "lora_alpha": config.resolved_alpha, "lora_dropout": config.dropout, "target_modules": names,
        "init_lora_weights": config.init if config.init == "gaussian" else True, "use_rslora": config.rank_stabilised,
        "use_dora": config.dora,
    }  # fmt: skip
    inject_adapter_in_model(LoraConfig(**options), model)
    adapted = [group for group in config.groups if group in model.module_groups()]
    model.frozen_parameters = frozenset(
        name
        for name, _ in model.named_parameters()
        if name.partition(".")[0] in adapted and MARK not in name and name not in own
    )


def _layers_to_adapt(model: BaseModel, config: LoRAConfig) -> list[str]:
    own = {name.rpartition(".")[0] for name in model.parameters_beside_adapters()}
    linear = [
        name
        for group in config.groups
        if group in model.module_groups()
        for name, module in model.module_groups()[group].named_modules(prefix=group)
        if isinstance(module, nn.Linear) and name not in own
    ]
    found = [name for name in linear if _is_target(name, config.targets)]
    if not found:
        wanted = ", ".join(config.targets)
        raise UserError(f"model.lora.targets: no linear layer of {', '.join(config.groups)} is one of {wanted}")
    return found


def _is_target(name: str, targets: tuple[str, ...]) -> bool:
    if ALL_LINEAR in targets and not name.endswith(OUTPUT_LAYER):
        return True
    return any(name == target or name.endswith(f".{target}") for target in targets)


def adapters(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Names and layers of peft's in a model, those that adapters are in."""
    for name, module in model.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            yield name, module


@torch.no_grad()
def merge_lora(model: nn.Module) -> int:
    """
    Add adapters to what they adapt and take them out, one layer after the other, in place.

    The model is then as it would be without LoRA; its names are the plain ones again.

    Returns:
        Number of merged layers.
    """
    found = list(adapters(model))
    for name, layer in found:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.base_layer)
    if isinstance(model, BaseModel):
        model.frozen_parameters = frozenset()
    return len(found)


def plain_name(name: str) -> str:
    """A parameter's name in the model without adapters."""
    return name.replace(BASE, ".")
