"""A simulator without a simulator, for tests of everything around it: a counter that succeeds at a certain step.

The frame of step t shows t, and white in its last pixel; the goal is reached once `goal` actions have closed the
gripper. Initial states from 89 on misbehave. Found by the worker processes as the module `fake_simulator`.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from vla.evaluation.simulator.libero_env import Observation

GOAL = 12
DIVERGES, HANGS, DIES, DIES_ONCE, RAISES = 89, 90, 91, 92, 93


class FakeEnv:
    """The methods of `LiberoEnv` that playing needs."""

    def __init__(self, image_size, cameras):
        self.image_size, self.cameras = image_size, cameras
        self.rendered = 0

    @property
    def state(self):
        return np.array([self.steps, self.closed, *self.reset_state], np.float64)

    def reset_to(self, initial_state, seed, wait_steps=10, render=True):
        misbehave(int(initial_state[0]))
        self.reset_state = np.array(initial_state, np.float64)
        self.steps, self.closed = 0, 0
        return self._observe(render)

    def step(self, action, render=True):
        assert abs(action[6]) == 1.0
        assert np.abs(action).max() <= 1.0
        if self.reset_state[0] == DIVERGES:
            np.linalg.inv(np.zeros((2, 2)))
        self.steps += 1
        self.closed += action[6] > 0
        return self._observe(render), self.closed >= GOAL

    def _observe(self, render):
        images = {}
        for i, name in enumerate(self.cameras if render else ()):
            images[name] = np.full((self.image_size, self.image_size, 3), (self.steps + i * 100) % 256, np.uint8)
            images[name][-1, -1] = 255
        joints = np.array([self.steps, *np.zeros(6)])
        return Observation(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(2), joints, images)

    def close(self):
        print("closed")


def misbehave(kind):
    if kind == HANGS:
        time.sleep(60)
    if kind == RAISES:
        raise RuntimeError("the simulation exploded")
    marker = Path(os.environ.get("FAKE_SIMULATOR_MARKER", "/nonexistent"))
    if kind == DIES or (kind == DIES_ONCE and not marker.exists()):
        if kind == DIES_ONCE:
            marker.touch()
        print("segmentation fault of a driver", file=sys.stderr)
        sys.stderr.flush()
        os._exit(7)


def make(suite, task, image_size, cameras):
    """A `worker.Factory`; initial state i holds the number i."""
    return FakeEnv(image_size, cameras), np.arange(100.0)[:, None]


def modules():
    """What the process has imported."""
    return sorted(sys.modules)


def fail(message):
    raise RuntimeError(message)
