"""The index of a TFRecord file: numbers and texts of its episodes, and where each picture lies; made once and kept.

It is a `.npz` file without pickled content beside the data, or in the user's cache folder where that can't be written.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from vla.data.datasets.encoded_images import IMAGE_ERRORS, image_size
from vla.data.datasets.episodes import MAX_STEPS
from vla.data.datasets.tfrecord import Feature, RecordError, parse_example, records
from vla.data.errors import one_line
from vla.data.statistics import user_cache

INDEX_VERSION = 1


@dataclass(frozen=True)
class Wanted:
    """Paths of features, as `features.json` has them."""

    images: tuple[str, ...]
    numbers: tuple[str, ...]
    text: str


@dataclass(frozen=True, eq=False)
class IndexedEpisode:
    """An episode of T steps, or what is wrong with it (`error`, the rest is empty then)."""

    number: int  # in its file
    error: str
    steps: int
    numbers: dict[str, NDArray[Any]]  # by path: flat values of all steps
    texts: list[str]  # one, or one for each step
    spans: dict[str, NDArray[np.int64]]  # by path: [T, 2], offset in the file and length of each picture
    sizes: dict[str, tuple[int, int]]  # by path: height and width of the first picture


def read_index(path: Path, wanted: Wanted) -> list[IndexedEpisode]:
    """All episodes of a file, from its index if that was made of the file as it is now.

    Raises:
        OSError: the file can't be read.
    """
    state = path.stat()
    key = json.dumps(
        [INDEX_VERSION, path.name, state.st_size, state.st_mtime_ns, wanted.images, wanted.numbers, wanted.text]
    )
    name = f".{path.name[:80]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.index.npz"
    places = [path.parent / name, user_cache() / name]
    for place in places:
        found = _load(place, key)
        if found is not None:
            return found
    episodes = list(_scan(path, wanted))
    for place in places:
        if _save(place, key, episodes):
            break
    return episodes


def _scan(path: Path, wanted: Wanted) -> Iterator[IndexedEpisode]:
    names = frozenset((*wanted.images, *wanted.numbers, wanted.text, "steps/is_first"))
    for number, (offset, payload) in enumerate(records(path)):
        try:
            if isinstance(payload, RecordError):
                raise payload
            yield _episode(number, offset, payload, wanted, parse_example(payload, names))
        except (*IMAGE_ERRORS, MemoryError) as error:
            yield IndexedEpisode(number, one_line(error), 0, {}, [], {}, {})


def _episode(number: int, offset: int, payload: bytes, wanted: Wanted, features: dict[str, Feature]) -> IndexedEpisode:
    for name in (*wanted.images, *wanted.numbers, wanted.text):
        if name not in features:
            raise ValueError(f"no '{name}'")
    counted = {name: len(features[name].spans) for name in wanted.images}
    if "steps/is_first" in features:
        counted["steps/is_first"] = len(features["steps/is_first"].values)
    steps = next(iter(counted.values()))
    if not 0 < steps <= MAX_STEPS or set(counted.values()) != {steps}:
        raise ValueError(f"numbers of steps differ or are out of range: {counted}")
    numbers = {}
    for name in wanted.numbers:
        numbers[name] = features[name].values
        if features[name].kind == "bytes" or len(numbers[name]) % steps or not len(numbers[name]):
            raise ValueError(f"'{name}' has {len(numbers[name])} values for {steps} steps")
    texts = [payload[a : a + n].decode("utf-8", "replace") for a, n in features[wanted.text].spans]
    if len(texts) not in (1, steps):
        raise ValueError(f"'{wanted.text}' has {len(texts)} texts for {steps} steps")
    spans: dict[str, NDArray[np.int64]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name in wanted.images:
        places = features[name].spans
        sizes[name] = image_size(payload[places[0][0] : sum(places[0])])
        spans[name] = np.array(places, dtype=np.int64) + np.array([offset, 0], dtype=np.int64)
    return IndexedEpisode(number, "", steps, numbers, texts if len(set(texts)) > 1 else texts[:1], spans, sizes)


def _load(path: Path, key: str) -> list[IndexedEpisode] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        head = json.loads(bytes(content.pop("head")).decode())
        if head["key"] != key:
            return None
        return [
            IndexedEpisode(
                row["number"], row["error"], row["steps"],
                {name: content[f"{row['number']}:{name}"] for name in row["numbers"]}, row["texts"],
                {name: content[f"{row['number']}:{name}"] for name in row["sizes"]},
                {name: (int(size[0]), int(size[1])) for name, size in row["sizes"].items()},
            )
            for row in head["episodes"]
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None  # absent, half-written or of other data: made anew


def _save(path: Path, key: str, episodes: list[IndexedEpisode]) -> bool:
    """Write beside and rename: several processes may do this at once, and each must find a whole file."""
    rows, arrays = [], {}
    for item in episodes:
        rows.append(
            {
                "number": item.number, "error": item.error, "steps": item.steps, "numbers": list(item.numbers),
                "texts": item.texts, "sizes": item.sizes,
            }
        )  # fmt: skip
        arrays.update({f"{item.number}:{name}": values for name, values in {**item.numbers, **item.spans}.items()})
    head = np.frombuffer(json.dumps({"key": key, "episodes": rows}).encode(), np.uint8)
    temporary = path.with_name(f"{path.name}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, head=head, **arrays)
        os.replace(temporary, path)
    except OSError:
        return False
    return True
