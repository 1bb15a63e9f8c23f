"""Rows of `vla list`, made of configurations alone: nothing is built, and no torch is imported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from vla.conf.help import about
from vla.conf.models import ModelConfig, ProcessorConfig
from vla.conf.models.base import LanguageProcessorConfig
from vla.conf.models.released import named_weights
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.pretrain import DatasetConfig  # with every dataset registered
from vla.conf.stage import Stage, StageConfig
from vla.conf.strategies import StrategyConfig

COLUMNS = {
    "models": ("id", "system", "parameters", "inputs", "stage defaults", "weights"),
    "datasets": ("id", "task", "what it is", "needs"),
    "strategies": ("id", "what it does", "options"),
}
PARAMETERS = Path(__file__).with_name("parameters.json")
Row = tuple[str | tuple[str, ...], ...]


def rows(what: str) -> Iterator[Row]:
    """A row for each registered choice, in order of registration.

    Args:
        what: a key of `COLUMNS`; a row's cells are in the order of its columns. A cell with several values is a tuple.
    """
    base: Any = {"models": ModelConfig, "datasets": DatasetConfig, "strategies": StrategyConfig}[what]
    make = {"models": _model, "datasets": _dataset, "strategies": _strategy}[what]
    for name, choice in base.get_known_choices().items():
        yield make(name, choice)


def _model(name: str, choice: type[ModelConfig]) -> Row:
    try:
        config = choice()
    except (TypeError, ValueError):  # a plug-in's defaults may not be valid alone
        return name, choice.system, "", "", "", ""
    return name, choice.system or choice.task, _parameters(name), _inputs(config), _stages(config), _weights(config)


def _dataset(name: str, choice: type[DatasetConfig]) -> Row:
    try:
        root = getattr(choice(), "root", None)
    except (TypeError, ValueError):
        root = None
    return name, choice.task, about(choice), "nothing: ships with the repository" if root else "--dataset.root DIR"


def _strategy(name: str, choice: type[StrategyConfig]) -> Row:
    options = tuple(f"{item.name} ({_default(item)})" for item in dataclasses.fields(choice))
    return name, about(choice), options


def _default(item: dataclasses.Field) -> str:
    return str(item.default).lower() if isinstance(item.default, bool) else str(item.default)


# --- models ---


@cache
def _counts() -> dict[str, int]:
    counts: dict[str, int] = json.loads(PARAMETERS.read_text(encoding="utf-8"))
    return counts


def _parameters(name: str) -> str:
    """The model's parameters with three digits; "" where nobody counted them."""
    count = _counts().get(name)
    if count is None:
        return ""
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return str(count)


def _inputs(config: ModelConfig) -> tuple[str, ...]:
    """What the model sees, by its processor."""
    processor: Any = config.processor
    vision = getattr(config, "vision_backbone", None)
    pixels = f"{vision.image_size} px" if isinstance(vision, VisionBackboneConfig) else ""
    if isinstance(processor, ProcessorConfig):
        cameras, frames = len(processor.cameras), processor.num_frames
        views = f"{cameras} camera{'s' * (cameras > 1)}" + (f" x {frames} frames" if frames > 1 else "")
        return (f"{views}, {processor.image_size} px", "instruction" + (", robot state" if processor.proprio else ""))
    if isinstance(processor, LanguageProcessorConfig):
        return f"image, {pixels}", f"text, {processor.max_length:,} tokens"
    if hasattr(processor, "max_image_side"):
        return f"images, tiles of {pixels}", f"text, {processor.max_length:,} tokens"
    if hasattr(processor, "input_size"):
        return (f"image, {' x '.join(map(str, processor.input_size))} px",)
    return ()


def _stages(config: ModelConfig) -> tuple[str, ...]:
    """A line for each stage; stages that are trained alike (of other module groups) share one."""
    names: dict[str, list[str]] = {}
    for stage in Stage:
        names.setdefault(_stage(config.stage(stage)), []).append(stage.value)
    if len(names) == 1:
        return tuple(f"every stage: {text}" for text in names)
    return tuple(f"{', '.join(stages)}: {text}" for text, stages in names.items())


def _stage(stage: StageConfig) -> str:
    if not stage.trainable:
        return "trains nothing"
    length = f"{stage.max_steps:,} steps" if stage.max_steps else f"{stage.epochs} epoch{'s' * (stage.epochs != 1)}"
    return f"{length} of {stage.global_batch_size}, lr {stage.learning_rate:g}, {stage.precision}"


def _weights(config: ModelConfig) -> tuple[str, ...]:
    """Where the values come from that training begins with, and those that were released of the whole model."""
    release = getattr(config, "release", None)
    found = [f"released: {release.names[0]}"] if release is not None else []
    whole = getattr(config, "weights", None)
    if whole:
        return (*found, str(whole))
    if not config.pretrained:
        return (*found, "random")
    return (*found, *dict.fromkeys(named_weights(config))) or ("random",)
