"""metrics.jsonl of any state and length."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from vla.reporting.history import Series, downsample, read_history, smooth


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_reads_each_key_as_a_series(tmp_path: Path) -> None:
    rows = [{"global_step": 1, "train/loss": 2.0, "note": "x"}, {"global_step": 2, "train/loss": 1.0, "eval/loss": 3.0}]
    history = read_history(_write(tmp_path / "metrics.jsonl", *map(json.dumps, rows)))
    assert history.series.keys() == {"train/loss", "eval/loss"}
    assert history.series["train/loss"].values.tolist() == [2.0, 1.0]
    assert history.last_step == 2 and history.num_bad_lines == 0
    assert history.get("missing", "eval/loss") is history.series["eval/loss"]
    assert history.get("missing") is None


def test_counts_lines_that_cannot_be_read(tmp_path: Path) -> None:
    lines = ['{"global_step": 1, "a": 1}', "[1]", '{"a": 2}', "", '{"global_step": 2, "a": ']
    history = read_history(_write(tmp_path / "metrics.jsonl", *lines))
    assert history.num_bad_lines == 3
    assert history.series["a"].values.tolist() == [1.0]


def test_values_that_are_not_finite_stay_and_are_skipped_by_the_statistics(tmp_path: Path) -> None:
    lines = ['{"global_step": 1, "a": 1.0}', '{"global_step": 2, "a": NaN}', '{"global_step": 3, "a": Infinity}']
    series = read_history(_write(tmp_path / "metrics.jsonl", *lines)).series["a"]
    assert len(series) == 3 and math.isnan(series.values[1])
    assert series.last == 1.0 and series.mean == 1.0 and series.percentile(95) == 1.0


@pytest.mark.parametrize(("times", "seconds"), [([1, 5, 9], 9), ([1, 5, 2, 4], 9), ([3], 3), ([5, 1, 1, 2], 7)])
def test_time_adds_the_stretches_of_a_resumed_run(tmp_path: Path, times: list[int], seconds: int) -> None:
    lines = [json.dumps({"global_step": i, "time": time}) for i, time in enumerate(times)]
    assert read_history(_write(tmp_path / "metrics.jsonl", *lines)).total_seconds == seconds


def test_downsampling_keeps_the_spikes_and_the_order() -> None:
    values = np.sin(np.arange(100_000) / 999)
    values[54_321] = 40.0
    small = downsample(Series(np.arange(100_000.0), values), 400)
    assert len(small) <= 400
    assert small.values.max() == 40.0 and small.steps[small.values.argmax()] == 54_321
    assert (np.diff(small.steps) >= 0).all()


def test_short_series_are_left_alone() -> None:
    series = Series(np.arange(3.0), np.array([3.0, 1.0, 2.0]))
    assert downsample(series) is series
    assert smooth(series, 1) is series


def test_smoothing_is_a_centred_mean() -> None:
    series = Series(np.arange(5.0), np.array([0.0, 3.0, 6.0, 3.0, 0.0]))
    np.testing.assert_allclose(smooth(series, 3).values, [1.5, 3.0, 4.0, 3.0, 1.5])
