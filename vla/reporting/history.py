"""Reading metrics.jsonl: one series per key, of any length, and what a figure shows of it."""

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Series:
    """Values of one metric over optimizer steps."""

    steps: np.ndarray  # float64 [N]
    values: np.ndarray  # float64 [N]; may hold NaN and infinities

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def finite(self) -> "Series":
        """Without the values that are not finite."""
        keep = np.isfinite(self.values)
        return Series(self.steps[keep], self.values[keep])

    @property
    def by_step(self) -> "Series":
        """In the order of the steps."""
        order = np.argsort(self.steps, kind="stable")
        return Series(self.steps[order], self.values[order])

    @property
    def last(self) -> float | None:
        """The newest finite value."""
        finite = self.finite
        return float(finite.values[-1]) if len(finite) else None

    @property
    def mean(self) -> float | None:
        """The mean of the finite values."""
        finite = self.finite
        return float(finite.values.mean()) if len(finite) else None

    def percentile(self, q: float) -> float | None:
        """The `q`-th percentile of the finite values."""
        finite = self.finite
        return float(np.percentile(finite.values, q)) if len(finite) else None


@dataclass(frozen=True)
class History:
    """All of a run's metrics."""

    series: dict[str, Series] = field(default_factory=dict)
    num_bad_lines: int = 0

    def get(self, *keys: str) -> Series | None:
        """The first of `keys` that was logged."""
        return next((self.series[key] for key in keys if len(self.series.get(key, ()))), None)

    def with_prefix(self, prefix: str) -> dict[str, Series]:
        """Series whose key starts with `prefix`, by the rest of the key."""
        return {key.removeprefix(prefix): item for key, item in self.series.items() if key.startswith(prefix)}

    @property
    def last_step(self) -> int | None:
        """The newest optimizer step of any series."""
        steps = [item.steps[-1] for item in self.series.values() if len(item)]
        return int(max(steps)) if steps else None

    @property
    def total_seconds(self) -> float | None:
        """Seconds of training. The clock starts anew when a run is resumed, so falling times begin a new stretch."""
        times = self.get("time")
        if times is None:
            return None
        values = times.finite.values
        ends = np.append(np.flatnonzero(np.diff(values) < 0), len(values) - 1)
        return float(values[ends].sum()) if len(values) else None


def _rows(path: Path) -> Iterator[dict | None]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # a run that was killed leaves half a line
                row = None
            yield row if isinstance(row, dict) else None


def read_history(path: Path) -> History:
    """Read metrics.jsonl. Lines that can't be read are counted, not fatal; numbers alone are kept."""
    steps: dict[str, array] = {}
    values: dict[str, array] = {}
    num_bad = 0
    for row in _rows(path):
        step = (row or {}).get("global_step")
        if row is None or isinstance(step, bool) or not isinstance(step, int | float):
            num_bad += 1
            continue
        for key, value in row.items():
            if key != "global_step" and isinstance(value, int | float) and not isinstance(value, bool):
                steps.setdefault(key, array("d")).append(step)
                values.setdefault(key, array("d")).append(value)
    return History({key: Series(np.array(steps[key]), np.array(values[key])) for key in steps}, num_bad)


def downsample(series: Series, max_points: int = 500) -> Series:
    """At most `max_points` points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(series) <= max_points:
        return series
    edges = np.linspace(0, len(series), max_points // 2 + 1).astype(int)
    keep: list[int] = []
    for start, stop in pairwise(edges):
        stretch = series.values[start:stop]
        keep += sorted({start + int(stretch.argmin()), start + int(stretch.argmax())})
    return Series(series.steps[keep], series.values[keep])


def smooth(series: Series, width: int) -> Series:
    """A centred moving average over `width` points, shorter at both ends."""
    if width <= 1 or len(series) < 3:
        return series
    half = width // 2
    total = np.concatenate(([0.0], np.cumsum(series.values)))
    index = np.arange(len(series))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(series))
    return Series(series.steps, (total[high] - total[low]) / (high - low))
