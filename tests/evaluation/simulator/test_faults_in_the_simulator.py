"""Faults in the real simulator: seen by the watched camera from the onset on, and gone with the next episode."""

from contextlib import ExitStack

import numpy as np
import pytest

from vla.evaluation.simulator.distractor import BODY
from vla.evaluation.simulator.injection import FaultSpec, Injection
from vla.evaluation.simulator.libero_env import IDLE_ACTION

pytest.importorskip("mujoco", reason="the libero extra is not installed")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]

ONSET, STEPS, SEED = 3, 12, 5
CAMERA = "agentview"


def rollout(env, name=None, steps=STEPS, episode="episode"):
    """Frames of the camera before each step, and the states; the arm rests."""
    injection = Injection(FaultSpec(name, onset=(ONSET, ONSET)) if name else None, episode, CAMERA)
    frames, states = [], []
    with ExitStack() as stack:
        stack.enter_context(injection.prepared(env))
        observation = env.reset_to(None, SEED)
        for step in range(steps):
            frames.append(injection.observed(step, observation).images[CAMERA].astype(int))
            states.append(env.state)
            observation, _ = env.step(injection.acted(env, step, IDLE_ACTION))
    return np.stack(frames), np.stack(states)


@pytest.fixture(scope="module")
def normal(soup_env):
    return rollout(soup_env)


# The least mean difference of a pixel once the fault is there, of 255.
@pytest.mark.parametrize(
    ("name", "difference"),
    [("camera_shift", 3.0), ("blur", 0.5), ("light", 10.0), ("distractor", 0.3), ("object_removed", 0.1)],
)
def test_fault_shows_from_its_onset_on(soup_env, normal, name, difference):
    frames, states = rollout(soup_env, name)
    assert states.shape == normal[1].shape  # official initial states still fit
    assert np.array_equal(states[:ONSET], normal[1][:ONSET])
    assert np.array_equal(frames[:ONSET], normal[0][:ONSET])
    change = np.abs(frames - normal[0]).mean(axis=(1, 2, 3))
    # What falls needs a moment to come into view.
    assert change[-1] > difference and (name == "distractor" or change[ONSET] > difference)
    if name == "distractor":
        assert BODY in [soup_env.sim.model._model.body(i).name for i in range(soup_env.sim.model._model.nbody)]
        assert np.ptp(frames[-1] - frames[-2]) < 60  # it lies still


def test_next_episode_is_as_if_there_had_been_none(soup_env, normal):
    for name in ("distractor", "camera_shift"):
        rollout(soup_env, name, steps=5)
    frames, states = rollout(soup_env)
    assert np.array_equal(states, normal[1]) and np.array_equal(frames, normal[0])


@pytest.mark.parametrize("episode", ["a", "b", "c"])
def test_distractor_lies_in_sight_on_the_floor_and_clear_of_the_objects(soup_env, normal, episode):
    frames, _ = rollout(soup_env, "distractor", episode=episode)
    assert (np.abs(frames[-1] - normal[0][-1]).max(axis=-1) > 20).sum() > 15  # pixels of 128 x 128
    model, data = soup_env.sim.model._model, soup_env.sim.data._data
    cube = data.body(BODY).xpos
    bottom = min(data.xpos[soup_env.inner.obj_body_id[name]][2] for name in soup_env.movable_objects)
    assert abs(cube[2] - model.geom(BODY).size[2] - bottom) < 0.03
    for name in soup_env.movable_objects:
        assert np.linalg.norm(data.xpos[soup_env.inner.obj_body_id[name]][:2] - cube[:2]) > 0.04
