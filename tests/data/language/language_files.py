"""A processor over the golden tokenizer, and small datasets in LLaVA's layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from vla.conf.datasets import LlavaConfig
from vla.conf.models.base import LanguageProcessorConfig
from vla.conf.models.vision import PixelTransform
from vla.conf.stage import Stage
from vla.data.datasets.base import Datasets
from vla.data.language.processor import LanguageProcessor
from vla.data.materialize import get_datasets
from vla.tokenization import add_pad_token, get_tokenizer

GOLDEN = Path(__file__).parents[2] / "golden" / "prismatic"
CASES = json.loads((GOLDEN / "datasets.json").read_text(encoding="utf-8"))
NAMES = {  # prompt formats by the golden cases' name for them
    "pure": "pure", "llama2_chat": "llama2-chat", "vicuna_v15": "vicuna", "mistral_instruct": "mistral-instruct",
}  # fmt: skip
FILES = {
    "align_annotations": "align.json", "align_images": "images", "finetune_annotations": "finetune.json",
    "finetune_images": "images",
}  # fmt: skip
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


def llava_config(root: Path | None, **values: Any) -> LlavaConfig:
    """A dataset with its files right below `root`."""
    return LlavaConfig(**{"root": root, **FILES, **values})


def open_data(root: Path, stage: Stage = Stage.FINETUNE, prompt: str = "pure", **values: Any) -> Datasets:
    """The data at `root`, with a processor of at most 64 tokens and a tower of 8 pixels."""
    return get_datasets(llava_config(root, **values), SimpleNamespace(processor=None), make_processor(prompt), stage)


def write_many(root: Path, rows: list[dict[str, Any]]) -> None:
    """Rows instead of the golden ones, and a picture for each that names one."""
    write_rows(root / "finetune.json", rows)
    write_images(root / "images", sorted({row["image"] for row in rows if "image" in row}))
