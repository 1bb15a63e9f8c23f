"""vla: train, resume, evaluate and run vision-language-action models. Importing it loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla.serving.vlm import VLM

__version__ = "0.1.0"


def load(id_or_path: str | Path, **options: Any) -> VLM:
    """Load a vision-language model by its id or from a folder; `vla.serving.vlm.load` says more."""
    from vla.serving.vlm import load

    return load(id_or_path, **options)


def available_models() -> dict[str, tuple[str, ...]]:
    """Names for people of every model with released weights, by the id that `load` takes."""
    from vla.conf.models.released import available_models

    return available_models()


def describe(model_id: str) -> dict[str, Any]:
    """What is known about a registered model; of released ones, what was published about them."""
    from vla.conf.models.released import describe

    return describe(model_id)
