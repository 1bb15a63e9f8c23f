"""A processor over the golden tokenizer, and small datasets in LLaVA's layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vla.conf.models.base import LanguageProcessorConfig
from vla.conf.models.vision import PixelTransform
from vla.data.language.processor import LanguageProcessor
from vla.tokenization import add_pad_token, get_tokenizer

GOLDEN = Path(__file__).parents[2] / "golden" / "prismatic"
PLAIN = PixelTransform(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def make_processor(
    prompt: str = "pure",
    transforms: dict[str, PixelTransform] | None = None,
    tokenizer: str = str(GOLDEN / "tokenizer"),
    **config: Any,
) -> LanguageProcessor:
    """At most 64 tokens and one tower of 8 pixels whose values are left as they are, unless told otherwise."""
    settings = LanguageProcessorConfig(**{"max_length": 64, "image_resize_strategy": "resize-naive", **config})
    padded = add_pad_token(get_tokenizer(tokenizer), "<PAD>")
    return LanguageProcessor(settings, transforms or {"siglip": PLAIN}, prompt, 256, padded)


def dialogue(*messages: str, image: str | None = None, **more: Any) -> dict[str, Any]:
    """A row of an annotation file; human and model say the messages in turn."""
    turns = [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(messages)]
    return {**({} if image is None else {"image": image}), "conversations": turns, **more}


def write_images(folder: Path, names: Sequence[str], size: tuple[int, int] = (12, 9)) -> None:
    """A picture of one colour for each name."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size[1], size[0], 3), 10 * number % 256, np.uint8)).save(path)


def write_rows(path: Path, rows: list[Any], indent: int | None = None) -> Path:
    """An annotation file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    return path
