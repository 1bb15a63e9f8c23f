"""Learning-rate schedules: pure functions from an optimizer step, counted from 0, to a factor of the base rate."""

import bisect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch.optim import Optimizer

from vla.conf.stage import ScheduleConfig

Schedule = Callable[[int], float]


def cosine(progress: float, floor: float = 0.0) -> float:
    """Half a cosine from 1 to `floor`; `progress` in [0, 1]."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float, floor: float = 0.0) -> float:
    """A straight line from 1 to `floor`; `progress` in [0, 1]."""
    return 1 - (1 - floor) * progress


def step_decay(step: int, step_size: int, gamma: float) -> float:
    """`gamma` to the power of the number of whole `step_size`s gone by, as `torch.optim.lr_scheduler.StepLR`."""
    return gamma ** (step // step_size)


def multistep_decay(step: int, milestones: tuple[int, ...], gamma: float) -> float:
    """`gamma` to the power of the number of milestones reached, as `torch.optim.lr_scheduler.MultiStepLR`."""
    return gamma ** bisect.bisect_right(milestones, step)


def warmup_steps(config: ScheduleConfig, total_steps: int) -> int:
    """Steps of the linear warm-up: the number given, or the share of all steps rounded down."""
    return int(total_steps * config.warmup_ratio) if config.warmup_steps is None else config.warmup_steps


def in_steps(config: ScheduleConfig, steps_per_epoch: int) -> ScheduleConfig:
    """The same schedule with `step_size` and `milestones` in optimizer steps."""
    if config.unit == "steps":
        return config
    milestones = tuple(epoch * steps_per_epoch for epoch in config.milestones)
    return replace(config, unit="steps", step_size=config.step_size * steps_per_epoch, milestones=milestones)


def get_schedule(config: ScheduleConfig, total_steps: int, steps_per_epoch: int = 1) -> Schedule:
    """The schedule that `config` describes for a run of `total_steps` optimizer steps.

    Warm-up: factor = step / warmup_steps, so the first of all steps has rate 0; by the rule `from_zero` (Prismatic)
    even where there are no warm-up steps; by `next_step` (nanoVLM) (step + 1) / warmup_steps, where a share of all
    steps is not rounded. Cosine and linear then fall over progress = (step - warmup) / (total - warmup), held in
    [0, 1]; the steps of `step` and `multistep` count from 0.
    """
    config = in_steps(config, steps_per_epoch)
    warmup: float = warmup_steps(config, total_steps)
    if config.warmup_rule == "next_step" and config.warmup_steps is None:
        warmup = total_steps * config.warmup_ratio
    return partial(_factor, config, warmup, total_steps)


def _factor(config: ScheduleConfig, warmup: float, total_steps: int, step: int) -> float:
    if step < warmup:
        return (step + (config.warmup_rule == "next_step")) / warmup
    if step == 0 and config.warmup_rule == "from_zero":
        return 0.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    if config.name == "cosine":
        return cosine(progress, config.min_lr_ratio)
    if config.name == "linear":
        return linear(progress, config.min_lr_ratio)
    if config.name == "step":
        return step_decay(step, config.step_size, config.gamma)
    if config.name == "multistep":
        return multistep_decay(step, config.milestones, config.gamma)
    return 1.0


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Every parameter group keeps its own base rate, `initial_lr`, so multipliers outlive the schedule."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
