"""Statistics of actions and robot states, and the small file beside the data that keeps them."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_VERSION = 1


@dataclass(frozen=True)
class ArrayStatistics:
    """By dimension, over all steps of all training episodes; std is that of the population."""

    min: tuple[float, ...]
    max: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    q01: tuple[float, ...]
    q99: tuple[float, ...]
    count: int  # steps

    def __len__(self) -> int:
        return len(self.min)

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> "ArrayStatistics":
        """Statistics of `values` [N, D], N >= 1, computed in float64."""
        wide = values.astype(np.float64)
        low, high = wide.min(axis=0), wide.max(axis=0)
        # Rounding would give a constant a tiny spread, and a mean beside its only value.
        mean = np.clip(wide.mean(axis=0), low, high)
        std = np.where(low == high, 0.0, wide.std(axis=0))
        q01, q99 = np.quantile(wide, [0.01, 0.99], axis=0)
        columns = {"min": low, "max": high, "mean": mean, "std": std, "q01": q01, "q99": q99}
        return cls(**{name: tuple(column.tolist()) for name, column in columns.items()}, count=len(values))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ArrayStatistics":
        """The inverse of `dataclasses.asdict`, lists allowed for tuples.

        Raises:
            ValueError, KeyError, TypeError: not such a dict.
        """
        count = int(values["count"])
        columns = {f.name: tuple(float(x) for x in values[f.name]) for f in fields(cls) if f.name != "count"}
        if len({len(column) for column in columns.values()}) != 1:
            raise ValueError("columns of different lengths")
        return cls(**columns, count=count)


Statistics = dict[str, ArrayStatistics]  # "actions" and, where the model sees it, "proprio"


def statistics_to_dict(statistics: Statistics) -> dict[str, Any]:
    """A plain dict that JSON can hold."""
    return {name: asdict(values) for name, values in statistics.items()}


def statistics_from_dict(values: dict[str, Any]) -> Statistics:
    """The inverse of `statistics_to_dict`."""
    return {name: ArrayStatistics.from_dict(item) for name, item in values.items()}


def statistics_hash(statistics: Statistics) -> str:
    """SHA-256 of the statistics themselves: equal for equal numbers, whatever they were computed from."""
    return hashlib.sha256(json.dumps(statistics_to_dict(statistics), sort_keys=True).encode()).hexdigest()


def source_hash(arrays: dict[str, NDArray[np.float32]], options: dict[str, Any]) -> str:
    """SHA-256 of what statistics are computed from: every value, and the `options` that selected them."""
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, options], sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def cached_statistics(
    arrays: dict[str, NDArray[np.float32]], folder: Path, options: dict[str, Any] | None = None
) -> Statistics:
    """Statistics of `arrays`, taken from the cache file in `folder` if it was made of exactly these values.

    Where `folder` can't be written, the user's cache folder is used, or none.

    Args:
        arrays: float32 [N, D] by name, training steps only.
        folder: of the data.
        options: what else the selection depends on; any JSON value.
    """
    source = source_hash(arrays, options or {})
    name = f".statistics-{source[:12]}.json"
    places = [folder / name, user_cache() / name]
    for path in places:
        found = _read(path, source)
        if found is not None:
            return found
    statistics = {key: ArrayStatistics.of(array) for key, array in arrays.items()}
    content = {"computed_from": source, "statistics": statistics_to_dict(statistics)}
    for path in places:
        if _write(path, content):
            break
    return statistics


def user_cache() -> Path:
    """The folder for what can be made anew, of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla"


def _read(path: Path, source: str) -> Statistics | None:
    try:
        content = json.loads(path.read_text())
        return statistics_from_dict(content["statistics"]) if content["computed_from"] == source else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, half-written or of other data: computed anew


def _write(path: Path, content: dict[str, Any]) -> bool:
    """Write beside and rename: several processes may do this at once, and each must find a whole file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}-{os.getpid()}.tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(temporary, path)
    except OSError:
        return False
    return True
