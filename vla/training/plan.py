"""`--dry_run`: what a run will do and need, without weights, data or memory. Nothing is written."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vla.conf.models import PrismaticConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.strategies import FSDPFullShardConfig
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.models.freezing import GroupRow, apply_stage
from vla.models.materialize import get_model
from vla.overwatch.launch import read_launch
from vla.training.example_batch import example_batch, example_features
from vla.training.memory import Activations, MemoryEstimate, count_activations, estimate_memory, to_fake
from vla.training.optim import lr_scale
from vla.training.plan_rates import RateCurve, rate_curve
from vla.training.plan_samples import count_samples
from vla.training.previous_stage import start_from_previous_stage
from vla.training.schedules import warmup_steps


@dataclass(frozen=True)
class Plan:
    """What a run will do. None stands for what can't be known without the data."""

    config: PretrainConfig
    groups: list[GroupRow]
    world_size: int
    accumulation: int
    num_samples: int | None
    steps_per_epoch: int | None
    total_steps: int | None
    learning_rate: float  # base rate, scaled by the number of processes as the stage says
    memory: MemoryEstimate
    assumptions: list[str] = field(default_factory=list)

    @property
    def rates(self) -> RateCurve:
        """Learning rates over the run; over its epochs if the number of its steps isn't known."""
        stage = self.config.stage_config
        return rate_curve(stage.schedule, self.learning_rate, self.total_steps, stage.epochs, self.steps_per_epoch)


def make_plan(config: PretrainConfig) -> Plan:
    """Work out the plan of `config` for `config.world_size` processes (None: those of the launcher).

    Raises:
        UserError: the batch can't be cut over the processes, or the data is given but can't be read.
    """
    stage = config.stage_config
    world_size = config.world_size or read_launch().world_size
    try:
        accumulation = stage.grad_accumulation_steps(world_size)
    except ValueError as error:
        raise UserError(f"model.{config.stage.field_name}.{error}") from None
    assumptions: list[str] = []
    model = get_model(replace(config.model, pretrained=False), device="meta", seed=config.seed)
    groups = apply_stage(model, stage)
    activations = _count_activations(model, config, assumptions)
    memory = estimate_memory(model, stage, world_size, activations)
    _assume(config, world_size, assumptions)
    num_samples, steps_per_epoch = count_samples(config, world_size, assumptions)
    total_steps = stage.max_steps or (steps_per_epoch and steps_per_epoch * stage.epochs)
    warmup = warmup_steps(stage.schedule, total_steps) if total_steps else 0
    if total_steps and warmup > total_steps // 2:
        assumptions.insert(0, f"note: the warm-up of {warmup:,} steps takes more than half of the run")
    learning_rate = stage.learning_rate * lr_scale(stage.lr_scaling, world_size)
    return Plan(
        config, groups, world_size, accumulation, num_samples, steps_per_epoch, total_steps, learning_rate, memory,
        assumptions,
    )  # fmt: skip


def _count_activations(model: BaseModel, config: PretrainConfig, assumptions: list[str]) -> Activations | None:
    """Run the forward pass on fake tensors and count what it leaves behind; then the batch itself."""
    stage = config.stage_config
    model.train()
    features = example_features(model, config, model.frozen_groups)  # `meta` is faster than fake tensors
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    to_fake(model, mode)
    try:
        batch = _fake_batch(config, features, mode)
        count = count_activations(model, lambda: model(batch), stage)
    except Exception as error:  # a model of a third party may do what fake tensors can't
        reason = (str(error).splitlines() or [""])[0]
        assumptions.append(f"activations are not known: the forward pass needs real numbers ({reason})")
        return None
    what = "counted over one forward pass without real numbers: tensors that autograd keeps for the backward pass"
    if stage.gradient_checkpointing:
        what += ", of each recomputed block only its inputs, and one block at a time in full"
    assumptions.append(f"activations: {what}")
    return count


def _fake_batch(config: PretrainConfig, features: dict[str, Tensor], mode: FakeTensorMode) -> Any:
    """A batch with fake values, and with `features` (of one sample) of frozen groups, which keep nothing themselves."""

    def fake(tensor: Tensor) -> Tensor:  # integers stay real: models look into them
        return mode.from_tensor(tensor) if tensor.is_floating_point() else tensor

    batch: Any = example_batch(config.model, config.stage_config.per_device_batch_size).map_tensors(fake)
    for name, value in features.items():
        with mode:
            batch.features[name] = torch.zeros(len(batch), *value.shape[1:], dtype=value.dtype)
    return batch


def _assume(config: PretrainConfig, world_size: int, assumptions: list[str]) -> None:
    stage = config.stage_config
    assumptions.append("not counted: work space of kernels, communication buffers, the CUDA context (about 0.5 GiB)")
    assumptions.append("not counted: what frozen groups need while they compute, which is free again afterwards")
    if isinstance(stage.strategy, FSDPFullShardConfig):
        kept = "two blocks" if stage.strategy.reshard_after_forward else "all blocks"
        assumptions.append(
            f"FSDP: weights, gradients and optimizer states are cut over {world_size} processes; {kept} at a time are "
            f"gathered in {stage.precision}"
        )
        if stage.grad_accumulation_steps(world_size) > 1:
            assumptions.append("FSDP with accumulation: gradients are whole until the last micro-batch")
        if stage.strategy.cpu_offload:
            assumptions.append("FSDP: weights, gradients and optimizer states lie in host memory")
    else:
        assumptions.append("DDP: every process holds all weights, gradients and optimizer states")
    if config.model.pretrained:
        assumptions.append("sizes are those of the configuration; no weights were looked up")
    if isinstance(config.model, PrismaticConfig):
        tokens, patches = config.model.processor.max_length, config.model.vision_backbone.num_patches
        assumptions.append(f"every sequence has an image ({patches:,} tokens) and {tokens:,} tokens of text, the most")
    _assume_start(config, assumptions)


def _assume_start(config: PretrainConfig, assumptions: list[str]) -> None:
    """Whose weights the stage begins with, or what is to be done first."""
    try:
        found = start_from_previous_stage(config).pretrained_checkpoint
    except UserError as error:
        assumptions.append(f"before it can run: {error}")
        return
    if found is not None:
        assumptions.append(f"begins with the weights of {found}")
