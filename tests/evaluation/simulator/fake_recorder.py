"""A recorder without a simulator: tiny demonstrations made of their seed, for tests of everything around it.

Found by the recording processes as the module `fake_recorder`. Every fourth seed fails. Files in the output folder make
it misbehave: `die` (once, the process ends), `raise` (every step), `unscripted` (task 0), `slow` (a minute per step).
"""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from vla.evaluation.simulator import record_suite, recording
from vla.evaluation.simulator.episodes import Rollout
from vla.evaluation.simulator.libero_env import Observation
from vla.evaluation.simulator.placing import ExpertError
from vla.evaluation.simulator.runtime import LiberoTask


def succeeds(seed):
    return seed % 4 != 3


def rollout(seed):
    """Two or three steps that show the seed."""
    steps = 2 + seed % 2
    images = {name: np.full((4, 4, 3), seed % 251, np.uint8) for name in ("agentview", "robot0_eye_in_hand")}
    seen = [Observation(np.full(3, seed), np.array([0.0, 0, 0, 1]), np.zeros(2), np.zeros(7), images)] * steps
    actions = np.random.default_rng(seed).normal(size=(steps, 7))
    return Rollout(seed, np.zeros(2), np.full((steps, 2), seed), actions, actions, steps, succeeds(seed), False,
                   seed % 3, tuple(seen))  # fmt: skip


def fake_env(task):
    """What the writer looks at."""
    model = SimpleNamespace(get_xml=lambda: "<mujoco/>")
    return SimpleNamespace(task=task, inner=SimpleNamespace(), env_kwargs={}, bddl_language="do it", versions={},
                           sim=SimpleNamespace(model=model))  # fmt: skip


def record(recorded, seed):
    """A step, as in `recorders.Recorder`."""
    if (recorded.output / "slow").exists():
        (recorded.output / f"pid-{os.getpid()}").touch()
        time.sleep(60)
    if (recorded.output / "raise").exists():
        raise RuntimeError("no\nluck")
    if recorded.task.index == 0 and (recorded.output / "unscripted").exists():
        raise ExpertError("no script for the goal ['open', 'microwave_1']")
    if (recorded.output / "die").exists():
        (recorded.output / "die").unlink()
        os._exit(7)
    if seed is None:
        recorded.assemble(fake_env(recorded.task))
        return True
    time.sleep(0.02 * (seed % 3))  # what is begun first is not what ends first
    with (recorded.output / "played").open("a") as played:
        played.write(f"{os.getpid()} {seed}\n")
    return recorded.record(fake_env(recorded.task), seed)


def make_recorder():
    """Take the simulator's place in this process."""
    recording.play_expert = lambda env, seed, state, disturbances: rollout(seed)
    recording.replay = lambda env, played: played
    return record


def list_tasks(suite, count=3):
    """Tasks whose BDDL file is this file: it is only copied into the attributes."""
    return [LiberoTask(suite, i, f"pick_up_the_thing_{i}", f"pick up {i}", Path(__file__)) for i in range(count)]


def main():
    """The script with this recorder: `python fake_recorder.py SCRIPT record --output DIR ...`."""
    import runpy

    real = record_suite.record
    record_suite.list_tasks = list_tasks
    record_suite.record = lambda config: real(config, make_recorder)
    sys.argv = sys.argv[1:]
    sys.exit(runpy.run_path(sys.argv[0], run_name="script")["main"](sys.argv[1:]))


if __name__ == "__main__":
    import fake_recorder  # the processes look for `make_recorder` in the module of that name

    fake_recorder.main()
