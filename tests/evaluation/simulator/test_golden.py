"""The renderer's and the physics' check, with pictures and states that are given to it."""

import numpy as np
import pytest

from vla.evaluation.simulator import golden
from vla.evaluation.simulator.libero_env import Observation

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")


def start(suite, light=0.0, moved=0.0):
    """The stored start of a suite as if it had just been rendered, with an error."""
    with np.load(golden.FOLDER / golden.FRAMES) as arrays:
        small = {camera: arrays[f"{suite}.{camera}"].astype(float) for camera in golden.CAMERAS}
        state = arrays[f"{suite}.state"] + moved
    frames = {name: np.clip(frame - light, 0, 255).astype(np.uint8) for name, frame in small.items()}
    frames = {name: frame.repeat(2, axis=0).repeat(2, axis=1) for name, frame in frames.items()}
    return Observation(np.zeros(3), np.array([0, 0, 0, 1.0]), np.zeros(2), np.zeros(7), frames), state


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_has_a_frame(suite, monkeypatch):
    monkeypatch.setattr(golden, "observe_start", lambda *_: start(suite))
    assert golden.check_golden_frame(suite).status == "passed"


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"light": 20.0}, "mean picture error agentview"),  # MuJoCo 3.3.7's floors are 39 darker
        ({"light": 2.0}, "mean picture error agentview"),
        ({"moved": 0.4}, "largest difference of the state 0.4"),  # MuJoCo 3.17 throws cartons 40 cm up
    ],
)
def test_other_pictures_and_physics_fail(mistake, words, monkeypatch):
    monkeypatch.setattr(golden, "observe_start", lambda *_: start("libero_object", **mistake))
    check = golden.check_golden_frame("libero_object")
    assert check.status == "failed" and words in check.detail


def test_stored_frames_are_small():
    assert sum(path.stat().st_size for path in golden.FOLDER.glob("*")) < 300_000


def test_suite_without_a_frame_is_skipped():
    assert golden.check_golden_frame("libero_other").status == "skipped"
