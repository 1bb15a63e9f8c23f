"""`dataset_statistics.json`: written, read, and refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from vla.data.dataset_statistics import (
    STATISTICS_FILE,
    dump_dataset_statistics,
    read_dataset_statistics,
    write_dataset_statistics,
)
from vla.data.statistics import ArrayStatistics, Statistics
from vla.errors import UserError


def statistics(seed: int = 0) -> Statistics:
    random = np.random.default_rng(seed)
    actions = random.normal(size=(400, 7)).astype(np.float32)
    actions[:, 6] = np.where(random.random(400) < 0.3, 1.0, -1.0)
    return {"actions": ArrayStatistics.of(actions), "proprio": ArrayStatistics.of(random.normal(size=(400, 8)))}


def test_round_trip(tmp_path: Path) -> None:
    write_dataset_statistics(tmp_path, "libero_object", statistics(), 10)
    found = read_dataset_statistics(tmp_path)
    assert (found.name, found.num_trajectories) == ("libero_object", 10)
    for kind, expected in statistics().items():
        assert found.statistics[kind].count == 400
        for column in ("min", "max", "mean", "std", "q01", "q99"):
            assert np.allclose(getattr(found.statistics[kind], column), getattr(expected, column), atol=1e-12)


def test_published_layout_and_gripper() -> None:
    """1 is open: of the values -1 (open) and +1 (closed), 70 % and 30 %, the mean is 0.7."""
    entry = dump_dataset_statistics(statistics(), 10)
    assert set(entry) == {"action", "proprio", "num_transitions", "num_trajectories"}
    action = entry["action"]
    assert action["mask"] == [True] * 6 + [False] and len(entry["proprio"]["q01"]) == 8
    assert (action["min"][6], action["max"][6], action["q01"][6], action["q99"][6]) == (0, 1, 0, 1)
    assert action["mean"][6] == pytest.approx(0.7, abs=0.05) and action["std"][6] == pytest.approx(0.45, abs=0.05)


def test_several_datasets_need_a_name(tmp_path: Path) -> None:
    other = {"bridge_orig": dump_dataset_statistics(statistics(1), 3)}
    write_dataset_statistics(tmp_path, "libero_object_no_noops", statistics(), 10, other=other)
    assert read_dataset_statistics(tmp_path, "bridge_orig").num_trajectories == 3
    assert read_dataset_statistics(tmp_path / STATISTICS_FILE, "libero_object").num_trajectories == 10
    with pytest.raises(UserError, match="unnorm_key: .* of bridge_orig, libero_object_no_noops; name one of them"):
        read_dataset_statistics(tmp_path)
    with pytest.raises(UserError, match="must be one of bridge_orig, libero_object_no_noops, got 'kuka'"):
        read_dataset_statistics(tmp_path, "kuka")


@pytest.mark.parametrize("content", ["[]", "{}", "{", '{"a": {"action": {"q01": [1]}}}', '{"a": {"proprio": 3}}'])
def test_other_files_are_refused_in_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / STATISTICS_FILE
    path.write_text(content)
    with pytest.raises(UserError, match="dataset_statistics") as raised:
        read_dataset_statistics(tmp_path)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="can't be read"):
        read_dataset_statistics(tmp_path / "nowhere.json")


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    path = write_dataset_statistics(tmp_path, "a", {"actions": statistics()["actions"]}, 1)
    assert set(json.loads(path.read_text())["a"]) == {"action", "num_transitions", "num_trajectories"}
