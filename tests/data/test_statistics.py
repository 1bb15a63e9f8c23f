"""Statistics, and the file that keeps them beside the data."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from libero_files import open_libero, write_task

from vla.data import statistics
from vla.data.statistics import (
    ArrayStatistics,
    cached_statistics,
    statistics_from_dict,
    statistics_hash,
    statistics_to_dict,
)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=(200, 3)).astype(np.float32) for name in ("actions", "proprio")}


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every array whose statistics were computed rather than read."""
    calls: list[int] = []
    real = ArrayStatistics.of
    monkeypatch.setattr(ArrayStatistics, "of", lambda values: (calls.append(len(values)), real(values))[1])
    return calls


def test_values() -> None:
    values = np.array([[0, 5], [1, 5], [2, 5], [3, 5], [10, 5]], dtype=np.float32)
    found = ArrayStatistics.of(values)
    assert (found.min, found.max, found.mean, found.count) == ((0, 5), (10, 5), (3.2, 5), 5)
    assert found.std == (pytest.approx(3.54401, abs=1e-5), 0)
    assert found.q01 == (pytest.approx(0.04), 5)
    assert found.q99 == (pytest.approx(9.72), 5)


def test_a_constant_has_no_spread() -> None:
    found = ArrayStatistics.of(np.full((1001, 1), 0.1, dtype=np.float32))
    assert found.std == (0.0,)
    assert found.min == found.max == found.mean == found.q01 == found.q99


def test_json_round_trip(arrays: dict[str, np.ndarray]) -> None:
    made = {name: ArrayStatistics.of(array) for name, array in arrays.items()}
    again = statistics_from_dict(json.loads(json.dumps(statistics_to_dict(made))))
    assert again == made
    assert statistics_hash(again) == statistics_hash(made)
    assert statistics_hash({"actions": made["actions"]}) != statistics_hash(made)


def test_cache_is_used_and_tied_to_the_content(tmp_path: Path, arrays: dict, computed: list[int]) -> None:
    first = cached_statistics(arrays, tmp_path)
    assert cached_statistics(arrays, tmp_path) == first
    assert len(computed) == 2
    arrays["actions"][7, 1] += 1
    assert cached_statistics(arrays, tmp_path) != first
    assert len(computed) == 4
    cached_statistics(arrays, tmp_path, {"filter_noops": True})
    assert len(computed) == 6


@pytest.mark.parametrize("content", ["", "{", "[]", '{"statistics": {}, "computed_from": "other"}', "swapped"])
def test_damaged_cache_is_computed_anew(tmp_path: Path, arrays: dict, computed: list[int], content: str) -> None:
    first = cached_statistics(arrays, tmp_path)
    (path,) = tmp_path.glob(".statistics-*.json")
    if content == "swapped":
        content = path.read_text().replace('"computed_from": "', '"computed_from": "0')
    path.write_text(content)
    assert cached_statistics(arrays, tmp_path) == first
    assert len(computed) == 4
    assert cached_statistics(arrays, tmp_path) == first
    assert len(computed) == 4


def test_folder_that_cannot_be_written(
    tmp_path: Path, arrays: dict, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "a file"
    file.write_text("")
    for _ in range(2):
        cached_statistics(arrays, file)  # nothing can be made below a file, not even by root
    assert len(computed) == 2
    assert len(list((tmp_path / "cache/vla").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    cached_statistics(arrays, file)
    assert len(computed) == 4


def test_only_training_episodes_count(tmp_path: Path) -> None:
    path = write_task(tmp_path, attributes={"obs_alignment": "before"})
    with h5py.File(path, "r+") as file:
        file["data/demo_2/actions"][:, 0] = 1000.0
    held_out = open_libero(tmp_path, validation_episodes=1)
    assert held_out.processor.statistics["actions"].max[0] < 1
    assert held_out.processor.statistics["actions"].count == 12 + 9
    assert open_libero(tmp_path).processor.statistics["actions"].max[0] == 1000
    assert len(list(tmp_path.glob(".statistics-*.json"))) == 2


def test_images_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(tmp_path)
    sizes: list[int] = []
    real = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: (sizes.append(self.ndim), real(self, key))[1])
    open_libero(tmp_path)
    assert set(sizes) == {2}


def test_cache_version_is_part_of_the_hash(arrays: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    before = statistics.source_hash(arrays, {})
    monkeypatch.setattr(statistics, "CACHE_VERSION", 2)
    assert statistics.source_hash(arrays, {}) != before
