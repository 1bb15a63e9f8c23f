"""Models whose weights were released, and what is to be said about them. Loads no torch."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from vla.conf.comments import summary
from vla.conf.models import ModelConfig, PrismaticConfig
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.registry import available, choices_text
from vla.conf.stage import StageConfig
from vla.errors import UserError

_IMAGE_PROCESSING = {"letterbox": "Letterbox", "resize-crop": "Resize Crop", "resize-naive": "Naive Resize"}


def available_models() -> dict[str, tuple[str, ...]]:
    """Names for people of every model with released weights, by the id that `vla.load` takes."""
    known = ModelConfig.get_known_choices()
    released = {name: getattr(choice, "release", None) for name, choice in known.items()}
    return {name: release.names for name, release in released.items() if release is not None}


def describe(model_id: str) -> dict[str, Any]:
    """
    What is known about a registered model; of released ones, what was published about them.

    Raises:
        UserError: There is no such model.
    """
    if model_id not in available(ModelConfig):
        raise UserError(f"model: {choices_text(model_id, available(ModelConfig))}")
    config = ModelConfig.get_choice_class(model_id)
    if not issubclass(config, PrismaticConfig):
        return {"name": model_id, "system": config.system, "task": config.task, "summary": summary(config)}
    return _describe_prismatic(config())


def _describe_prismatic(config: PrismaticConfig) -> dict[str, Any]:
    release, vision = config.release, config.vision_backbone
    procedure = "single-stage" if config.skips_align else "multi-stage"
    return {
        "name": (release and (release.title or release.names[0])) or type(config).model_id,
        "optimization_procedure": procedure + ("-full-finetune" if release and release.full_finetune else ""),
        "visual_representation": (release and release.visual) or f"{vision.label} @ {vision.image_size}px",
        "image_processing": _IMAGE_PROCESSING[config.processor.image_resize_strategy],
        "language_model": config.llm_backbone.label,
        "datasets": list(release.datasets) if release else [],
        "train_epochs": (release and release.epochs) or config.finetune.epochs,
    }


def named_weights(config: Any) -> Iterator[str]:
    """Every `weights` of a configuration and of its parts, and the timm ids of its towers."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.name == "weights" and value:
            yield from value.values() if isinstance(value, dict) else [str(value)]
        for part in value if isinstance(value, tuple) else (value,):
            if dataclasses.is_dataclass(part) and not isinstance(part, StageConfig):
                yield from named_weights(part)
    if isinstance(config, VisionBackboneConfig):
        named = config.weights
        yield from (f"timm/{tower.timm_id}" for tower in config.towers if tower.name not in named)
