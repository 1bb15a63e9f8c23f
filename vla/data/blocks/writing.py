"""Writing the pictures and questions as a dataset in LLaVA's layout (scripts/data.py render-vqa)."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from vla.conf.render_vqa import RenderVQAConfig
from vla.data.blocks.questions import ask, caption
from vla.data.blocks.ray_tracer import Rendering, render
from vla.data.blocks.scene import Scene, sample_scene
from vla.data.rendered_files import claim_folder, map_in_order, write_png, write_text

FORMAT = 1
LEAST_VISIBLE = 0.4  # share of a block that must not be hidden by others
SEEDS_APART = 1_000_000_000  # between the scenes of one split and those of the next
CAPTION_REQUEST = "<image>\nDescribe the picture."
SPLITS = ("train", "validation")


def write_dataset(config: RenderVQAConfig) -> int:
    """Render the pictures and write `align.json` (captions), `finetune.json` (questions), `all.json` (both) and
    `validation.json` (questions about other pictures).

    The same settings give the same files. What an interrupted run has rendered is not rendered again.

    Returns:
        Exit code 0.

    Raises:
        UserError: the folder holds a dataset of other settings.
    """
    root = config.output
    claim_folder(root, {"format": FORMAT, "seed": config.seed, "image_size": config.image_size})
    examples: dict[str, list[dict[str, Any]]] = {}
    for split, count in zip(SPLITS, (config.images, config.validation_images), strict=True):
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        examples[split] = list(_render_split(config, split, count))
    captions = [_captioned(example) for example in examples["train"]]
    questions = [_questioned(example) for example in examples["train"]]
    for name, rows in (("align", captions), ("finetune", questions), ("all", captions + questions)):
        _write_examples(root / f"{name}.json", rows)
    _write_examples(root / "validation.json", [_questioned(example) for example in examples["validation"]])
    count = sum(len(example["questions"]) for split in SPLITS for example in examples[split])
    print(f"{config.images} + {config.validation_images} pictures, {count} questions in {root}")
    return 0


def make_example(split: str, size: int, seed: int, number: int, root: Path) -> dict[str, Any]:
    """Render one scene into `root` and say what is true of it. Splits never share a scene's seed."""
    scene, rendering = visible_scene(seed + SEEDS_APART * SPLITS.index(split) + number, size)
    path = Path("images") / split / f"{number:06d}.png"
    write_png(root / path, rendering.image)
    generator = np.random.default_rng((scene.seed, SEEDS_APART))
    return {
        "id": f"{split}-{number:06d}",
        "image": path.as_posix(),
        "caption": caption(scene, rendering.column),
        "questions": [vars(question) for question in ask(scene, rendering.column, generator)],
    }


def visible_scene(seed: int, size: int) -> tuple[Scene, Rendering]:
    """The first scene of a seed in which no block is mostly hidden, and its picture."""
    attempt = 0
    while True:
        scene = sample_scene(seed, attempt)
        if len(scene.blocks) >= 2 and render(scene, 40, 1).visible.min() >= LEAST_VISIBLE:
            return scene, render(scene, size)
        attempt += 1


def _render_split(config: RenderVQAConfig, split: str, count: int) -> Iterator[dict[str, Any]]:
    """The examples of a split in order, from its log as far as that goes."""
    log = config.output / f".{split}.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")] \
        if log.exists() else []  # fmt: skip
    log.write_text("".join(json.dumps(example) + "\n" for example in done[:count]))
    yield from done[:count]
    numbers = range(min(len(done), count), count)
    make = partial(make_example, split, config.image_size, config.seed, root=config.output)
    with log.open("a") as file:
        for example in track(map_in_order(make, numbers, config.workers), f"{split} pictures", total=len(numbers)):
            file.write(json.dumps(example) + "\n")
            file.flush()
            yield example


def _write_examples(path: Path, examples: list[dict[str, Any]]) -> None:
    write_text(path, json.dumps(examples, indent=1) + "\n")


def _captioned(example: dict[str, Any]) -> dict[str, Any]:
    turns = [{"from": "human", "value": CAPTION_REQUEST}, {"from": "gpt", "value": example["caption"]}]
    return {"id": example["id"], "image": example["image"], "conversations": turns}


def _questioned(example: dict[str, Any]) -> dict[str, Any]:
    """All questions about a picture as one conversation; `kinds` has one entry for each."""
    turns: list[dict[str, str]] = []
    for number, question in enumerate(example["questions"]):
        text = question["text"] if number else f"<image>\n{question['text']}"
        turns += [{"from": "human", "value": text}, {"from": "gpt", "value": question["answer"]}]
    kinds = [question["kind"] for question in example["questions"]]
    return {"id": example["id"], "image": example["image"], "conversations": turns, "kinds": kinds}
