"""Which rows of annotation files a run reads: those without faults, and which of them are held out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla.conf.datasets import LlavaConfig
from vla.conf.stage import Stage
from vla.data.datasets.base import existing_root, warn_of_skipped
from vla.data.errors import BadExample
from vla.data.language.annotation_scan import read_annotations
from vla.data.language.annotations import Annotations
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

_MOST_SHOWN = 5
ALIGN_TURNS = 2


@dataclass(frozen=True)
class Part:
    """Rows of one annotation file."""

    annotations: Annotations
    rows: NDArray[np.int64]
    images: Path  # folder in which the rows' image paths begin

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Selection:
    """What a stage trains on, and what it holds out."""

    train: Part
    validation: Part | None
    skipped: list[str]  # one line for each row that was left out


def select_rows(config: LlavaConfig, stage: Stage) -> Selection:
    """Find and check the rows for `stage`; no image is opened, but every one must be there.

    Raises:
        UserError: there is no such folder or file, or no row for one of the parts.
        BadExample: a row can't be trained on, and `config.on_bad_example` is error.
    """
    is_align = stage is Stage.ALIGN
    prefix = "align" if is_align else "finetune"
    root = existing_root(config.root, "with the dataset's annotation files and images")
    images = _folder(root, getattr(config, f"{prefix}_images"), f"dataset.{prefix}_images")
    skipped: list[str] = []

    def usable(field: str) -> Part:
        path = _file(root, getattr(config, field), f"dataset.{field}")
        found = read_annotations(path)
        faults = find_faults(found, images, is_align)
        if faults and config.on_bad_example == "error":
            raise _first_fault(path, faults)
        skipped.extend(f"{path}[{row}]: {fault}" for row, fault in faults.items())
        rows = np.setdiff1d(np.arange(len(found)), np.fromiter(faults, np.int64, len(faults)))
        if not len(rows):
            raise UserError(f"dataset.root: {path} has no row to train on{_because(path, faults)}")
        return Part(found, rows, images)

    train, validation = usable(f"{prefix}_annotations"), None
    if getattr(config, f"{prefix}_validation_annotations") is not None:
        validation = usable(f"{prefix}_validation_annotations")
    elif config.validation_fraction > 0:
        train, validation = hold_out(train, config.validation_fraction)
    _report(config, train, validation, skipped)
    return Selection(train, validation, skipped)


def find_faults(annotations: Annotations, images: Path, is_align: bool) -> dict[int, str]:
    """What is wrong with rows, by row in order: with what they say, or that their image isn't there.

    Args:
        annotations: of the file.
        images: folder in which image paths begin.
        is_align: whether rows must be images with one caption.
    """
    faults = dict(annotations.problems)
    if is_align:
        for row in np.flatnonzero(~annotations.is_multimodal).tolist():
            faults.setdefault(row, "has no 'image', and the align stage learns to caption images")
        for row in np.flatnonzero(annotations.turns != ALIGN_TURNS).tolist():
            turns = annotations.turns[row]
            faults.setdefault(row, f"has {turns} turns, and the align stage learns from a request and a caption")
    names: dict[str, frozenset[str]] = {}  # by folder: one listing instead of a look-up for each of many images
    for row, path in enumerate(annotations.images()):
        folder, _, name = path.rpartition("/")
        if folder not in names:
            names[folder] = _list(images / folder)
        if path and name not in names[folder] and not (images / path).is_file():
            faults.setdefault(row, f"no image '{path}' in {images}")
    return dict(sorted(faults.items()))


def hold_out(part: Part, fraction: float) -> tuple[Part, Part]:
    """Split rows so that an image's rows stay together; rows without an image are each for themselves.

    Which images are held out depends on nothing but their paths: the smallest hashes. At least one is.

    Raises:
        UserError: nothing would be left to train on.
    """
    keys = part.annotations.keys[part.rows]
    distinct = np.unique(keys)
    count = max(1, round(fraction * len(distinct)))
    if count >= len(distinct):
        raise UserError(
            f"dataset.validation_fraction: must leave something to train on, got {fraction} of {len(distinct)} images"
        )
    held_out = keys < distinct[count]
    parts = [Part(part.annotations, part.rows[mask], part.images) for mask in (~held_out, held_out)]
    return parts[0], parts[1]


def _list(folder: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in folder.iterdir())
    except OSError:
        return frozenset()


def _folder(root: Path, name: str, field: str) -> Path:
    path = root / name
    if not path.is_dir():
        raise UserError(f"dataset.root: no folder '{name}' ({field}) in {root}")
    return path


def _file(root: Path, name: str, field: str) -> Path:
    path = root / name
    if not path.is_file():
        raise UserError(
            f"dataset.root: no file '{name}' ({field}) in {root}; scripts/data.py --help says what makes it"
        )
    return path


def _first_fault(path: Path, faults: dict[int, str]) -> BadExample:
    row, fault = next(iter(faults.items()))
    more = f"; {len(faults) - 1} more rows can't be used" if len(faults) > 1 else ""
    return BadExample(f"{path}[{row}]: {fault}{more} (dataset.on_bad_example skip leaves such rows out)")


def _because(path: Path, faults: dict[int, str]) -> str:
    if not faults:
        return ""
    row, fault = next(iter(faults.items()))
    return f", e.g. {path.name}[{row}]: {fault}"


def _report(config: LlavaConfig, train: Part, validation: Part | None, skipped: list[str]) -> None:
    name = type(config).dataset_id or str(config.root)
    about_images = int(train.annotations.is_multimodal[train.rows].sum())
    held_out = f"{len(validation):,} rows" if validation else "none"
    overwatch.info(f"{name}: {len(train):,} rows, {about_images:,} of them about an image; held out: {held_out}")
    warn_of_skipped(config.root, "rows", skipped, _MOST_SHOWN)
