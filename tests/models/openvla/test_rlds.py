"""RLDS-side transforms: TensorFlow's results without TensorFlow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vla.data.rlds import (
    TRANSFORMS,
    allocate_threads,
    binarize_gripper,
    chunk_trajectory,
    invert_gripper,
    libero_transform,
    relative_to_absolute_gripper,
)


def test_gripper_rules(golden: Callable[[str], Any]) -> None:
    for case in golden("rlds_transforms")["gripper"]:
        commands = np.array(case["actions"], dtype=np.float32)
        assert np.array_equal(binarize_gripper(commands), np.float32(case["binarized"]))
        assert np.array_equal(invert_gripper(commands), np.float32(case["inverted"]))
        assert relative_to_absolute_gripper(np.float32(case["rel"])).tolist() == case["rel2abs"]


def test_a_gripper_that_never_moves_is_open() -> None:
    assert relative_to_absolute_gripper(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_libero(golden: Callable[[str], Any]) -> None:
    case = golden("rlds_transforms")["libero_transform"]
    found = libero_transform(np.float32(case["action"]), np.float32(case["state"]))
    assert np.array_equal(found.actions, np.float32(case["action_out"]))
    assert np.array_equal(found.eef_state, np.float32(case["EEF_state"]))
    assert np.array_equal(found.gripper_state, np.float32(case["gripper_state"]))
    assert TRANSFORMS["libero_object_no_noops"] is libero_transform


@pytest.mark.parametrize(("key", "drop_tail"), [("openvla", False), ("oft", True)])
def test_chunks(golden: Callable[[str], Any], key: str, drop_tail: bool) -> None:
    for case in golden("rlds_transforms")["chunk"]:
        found = chunk_trajectory(
            np.array(case["action"]), case["window_size"], case["future_action_window_size"],
            np.array(case["absolute_action_mask"]), drop_tail=drop_tail,
        )  # fmt: skip
        assert found.actions.tolist() == case[key]["action"]
        assert found.observations.tolist() == case[key]["obs_x"]
        assert found.is_real.tolist() == case[key]["pad_mask"]


def test_allocate_threads(golden: Callable[[str], Any]) -> None:
    for case in golden("rlds_transforms")["allocate_threads"]:
        assert allocate_threads(case["n"], case["weights"]).tolist() == case["out"]


@pytest.mark.parametrize(("total", "weights", "message"), [(1, [1, 1], "at least 2"), (3, [1, 0], "must be > 0")])
def test_what_cannot_be_allocated(total: int, weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        allocate_threads(total, weights)
