"""What programs that render datasets share: a folder belongs to its settings, and files are never seen half written."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from vla.conf.json_files import read_json
from vla.errors import UserError

MANIFEST = "manifest.json"
Item = TypeVar("Item")
Result = TypeVar("Result")


def claim_folder(root: Path, settings: dict[str, Any]) -> None:
    """Make `root` the folder of a dataset rendered with `settings`, which its manifest holds.

    Raises:
        UserError: it holds one of other settings.
    """
    path = root / MANIFEST
    if path.exists():
        found = read_json(path)
        if found != settings:
            raise UserError(f"output: {root} was rendered with {found}, this is {settings}; take another folder")
    root.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(settings, indent=1) + "\n")


def write_text(path: Path, content: str) -> None:
    """Write a text file in one go."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(content)
    os.replace(beside, path)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] or [H, W] as a picture in one go."""
    beside = path.with_name(f".{path.name}")
    Image.fromarray(pixels).save(beside, format="png")
    os.replace(beside, path)


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Results in the order of `items`, from `workers` processes; in this one where that is 1."""
    if workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(function, items, chunksize=8)
