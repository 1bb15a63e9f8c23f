"""A small dataset in LLaVA's layout whose answers can be seen in its pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vla.conf.datasets import LlavaV15Config

COLOURS = {"red": (200, 30, 40), "green": (30, 180, 60), "blue": (40, 60, 210)}
SUMS = [("one and one", "two"), ("two and one", "three"), ("three and one", "four")]


def turn(speaker: str, text: str) -> dict[str, str]:
    """What one of the two says."""
    return {"from": speaker, "value": text}


def write_llava(root: Path, images: int = 24, texts: int = 9, **options: Any) -> LlavaV15Config:
    """Pictures of one colour below `root`, rows about them for both stages, and rows of text alone to finetune.

    Dialogues have one to three questions, so that rows are of different lengths.
    """
    random = np.random.default_rng(0)
    align: list[dict[str, Any]] = []
    finetune: list[dict[str, Any]] = []
    (root / "images").mkdir(parents=True, exist_ok=True)
    for number in range(images):
        name, colour = list(COLOURS.items())[number % len(COLOURS)]
        image = f"images/{number}.png"
        noise = random.integers(-20, 20, (20, 24, 3))
        Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(root / image)
        caption = [turn("human", "<image>\nSay it."), turn("gpt", f"All {name}.")]
        align.append({"image": image, "conversations": caption})
        dialogue = [turn("human", "<image>\nWhich colour?"), turn("gpt", f"{name.capitalize()}.")]
        for other in list(COLOURS)[: number % 3]:
            dialogue += [turn("human", f"Is it {other}?"), turn("gpt", "Yes." if other == name else "No.")]
        finetune.append({"image": image, "conversations": dialogue})
    for number in range(texts):
        question, answer = SUMS[number % len(SUMS)]
        turns = [turn("human", f"{number}. How much is {question}?"), turn("gpt", f"{answer}.")]
        finetune.append({"conversations": turns})
    for stage, rows in (("align", align), ("finetune", finetune)):
        (root / f"{stage}.json").write_text(json.dumps(rows))
    return LlavaV15Config(
        root=root, align_annotations="align.json", align_images=".", finetune_annotations="finetune.json",
        finetune_images=".", **({"validation_fraction": 0.25} | options),
    )  # fmt: skip
