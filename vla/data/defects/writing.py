"""Writing rendered pictures with defects in MVTec-AD's layout (scripts/data.py render-defects)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from vla.conf.render_defects import CLASSES, RenderDefectsConfig
from vla.data.defects.classes import defects_of, draw_example
from vla.data.rendered_files import claim_folder, map_in_order, write_png, write_text

FORMAT = 1
GOOD = "good"
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Wanted:
    """A picture to be there."""

    class_name: str
    split: str
    kind: str  # good, or a defect
    number: int

    @property
    def file(self) -> str:
        """Below the folder."""
        return f"{self.class_name}/{self.split}/{self.kind}/{self.number:03d}.png"

    @property
    def mask(self) -> str | None:
        """Below the folder; faultless pictures have none."""
        return None if self.kind == GOOD else f"{self.class_name}/ground_truth/{self.kind}/{self.number:03d}_mask.png"

    @property
    def key(self) -> tuple[int, ...]:
        """Numbers that no other picture has."""
        kinds = (GOOD, *defects_of(self.class_name))
        return CLASSES.index(self.class_name), SPLITS.index(self.split), kinds.index(self.kind), self.number

    def meta(self) -> dict[str, Any]:
        """Its line in a meta file."""
        line = {"filename": self.file, "label": int(self.kind != GOOD), "clsname": self.class_name}
        line["label_name"] = GOOD if self.kind == GOOD else "defective"
        return line if self.mask is None else line | {"maskname": self.mask}


def write_dataset(config: RenderDefectsConfig) -> int:
    """Render the pictures and masks, and write `train.json` and `test.json`.

    The same settings give the same files. What an interrupted run has rendered is not rendered again, and numbers can
    be raised later.

    Returns:
        Exit code 0.

    Raises:
        UserError: the folder holds a dataset of other settings.
    """
    root = config.output
    claim_folder(root, {"format": FORMAT, "seed": config.seed, "image_size": config.image_size})
    wanted = list(_wanted(config))
    for folder in {(root / name).parent for item in wanted for name in (item.file, item.mask) if name}:
        folder.mkdir(parents=True, exist_ok=True)
    missing = [item for item in wanted if not (root / item.file).exists()]
    make = partial(_write_picture, root, config.seed, config.image_size)
    for _ in track(map_in_order(make, missing, config.workers), "pictures", total=len(missing)):
        pass
    for split in SPLITS:
        lines = [json.dumps(item.meta()) + "\n" for item in wanted if item.split == split]
        write_text(root / f"{split}.json", "".join(lines))
    print(f"{len(wanted)} pictures of {len(config.classes)} classes in {root}, {len(missing)} of them new")
    return 0


def _wanted(config: RenderDefectsConfig) -> Iterator[Wanted]:
    for name in config.classes:
        yield from (Wanted(name, "train", GOOD, number) for number in range(config.train))
        yield from (Wanted(name, "test", GOOD, number) for number in range(config.test_good))
        for defect in defects_of(name):
            yield from (Wanted(name, "test", defect, number) for number in range(config.test_bad))


def _write_picture(root: Path, seed: int, size: int, item: Wanted) -> None:
    example = draw_example(item.class_name, (seed, *item.key), size, None if item.kind == GOOD else item.kind)
    if item.mask is not None:  # before the picture, whose presence says that both are there
        write_png(root / item.mask, example.mask.astype(np.uint8) * 255)
    write_png(root / item.file, example.image)
