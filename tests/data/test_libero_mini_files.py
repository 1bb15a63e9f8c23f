"""The demonstrations that ship obey the official LIBERO layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "data" / "libero-mini"
FILES = sorted(FOLDER.glob("*_demo.hdf5"))
STATE_SIZE = 110  # time, positions and velocities of libero_object's arm, gripper and seven objects
VECTORS = {
    "actions": 7,
    "expert_actions": 7,
    "states": STATE_SIZE,
    "robot_states": 9,
    "obs/ee_pos": 3,
    "obs/ee_ori": 3,
    "obs/ee_states": 6,
    "obs/gripper_states": 2,
    "obs/joint_states": 7,
}
IMAGES = ("obs/agentview_rgb", "obs/eye_in_hand_rgb")


def demos(path: Path):
    """Yield the demonstrations of a file."""
    with h5py.File(path) as file:
        for index in range(len(file["data"])):
            yield file["data"][f"demo_{index}"]


def test_enough_tasks_and_small_enough():
    assert len(FILES) >= 4
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 40e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:40])
def test_file_attributes(path):
    with h5py.File(path) as file:
        assert list(file) == ["data"]
        attributes = dict(file["data"].attrs)
        count = len(file["data"])
        total = sum(len(file["data"][name]["actions"]) for name in file["data"])
    assert count >= 3
    assert attributes["num_demos"] == count
    assert attributes["total"] == total
    instruction = path.name.removesuffix("_demo.hdf5").replace("_", " ")
    assert json.loads(attributes["problem_info"])["language_instruction"] == instruction
    assert attributes["language"] == instruction
    assert json.loads(attributes["env_args"])["env_name"] == attributes["env_name"]
    assert attributes["macros_image_convention"] == "opengl"
    assert attributes["obs_alignment"] == "before_action"
    assert "not the official evaluation states" in attributes["placements"]
    assert attributes["bddl_file_content"].startswith("(define")
    assert json.loads(attributes["versions"])["mujoco"] == "3.2.3"
    assert not Path(attributes["bddl_file_name"]).is_absolute()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:40])
def test_arrays(path):
    for demo in demos(path):
        steps = int(demo.attrs["num_samples"])
        for name, width in VECTORS.items():
            assert demo[name].shape == (steps, width), name
            assert demo[name].dtype == np.float64, name
            assert np.isfinite(demo[name][:]).all(), name
        for name in IMAGES:
            assert demo[name].shape == (steps, 128, 128, 3)
            assert demo[name].dtype == np.uint8
        for name in ("rewards", "dones"):
            assert demo[name].dtype == np.uint8
            assert demo[name][:].tolist() == [0] * (steps - 1) + [1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:40])
def test_actions_and_states_are_consistent(path):
    for demo in demos(path):
        actions, states = demo["actions"][:], demo["states"][:]
        assert np.abs(actions).max() <= 1.0
        assert set(np.unique(actions[:, 6])) == {-1.0, 1.0}
        assert actions[0, 6] == -1.0  # the hand starts open
        np.testing.assert_allclose(np.diff(states[:, 0]), 0.05, atol=1e-9)
        assert np.array_equal(demo.attrs["init_state"], states[0])
        # Observations belong to the state before the action: joints are read 2 ms before the control step ends.
        np.testing.assert_allclose(demo["obs/joint_states"][:], states[:, 1:8], atol=0.005)
        position, robot = demo["obs/ee_pos"][:], demo["robot_states"][:]
        assert np.array_equal(robot[:, 2:5], position)
        assert np.array_equal(robot[:, :2], demo["obs/gripper_states"][:])
        assert np.array_equal(demo["obs/ee_states"][:, :3], position)
        # An action moves the hand its own way: correlation with the displacement that follows it, not precedes it.
        moved = np.diff(position, axis=0)
        assert all(np.corrcoef(actions[:-1, axis], moved[:, axis])[0, 1] > 0.7 for axis in range(3))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:40])
def test_placements_are_their_own_and_no_machine_path_is_stored(path):
    seeds = [int(demo.attrs["seed"]) for demo in demos(path)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 1000
    for demo in demos(path):
        model = demo.attrs["model_file"]
        assert model.startswith("<mujoco")
        assert "{SITE_PACKAGES}" in model
        assert 'file="/' not in model


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:40])
def test_pictures_show_something_and_the_task_moves(path):
    for demo in demos(path):
        for name in IMAGES:
            first, last = demo[name][0].astype(np.int16), demo[name][-1].astype(np.int16)
            assert first.std() > 20
            assert np.abs(first - last).mean() > 2
