"""Recorded demonstrations as episodes to be played again, and how exactly they come out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vla.conf.libero import WAIT_STEPS
from vla.evaluation.simulator.golden import Check
from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.runtime import list_tasks, load_libero

EXACT, FROM_STATE = "bit-exact", "from its first state"


@dataclass(frozen=True)
class Demonstration:
    """What it takes to play a demonstration again.

    Attributes:
        label: file and demo.
        actions: float64 [T, 7].
        states: float64 [T, 1 + nq + nv] before every action.
        reset_state: what the episode was reset to before the objects settled; None in files that don't say.
        seed: of the furniture; None in files that don't say.
    """

    label: str
    actions: np.ndarray
    states: np.ndarray
    reset_state: np.ndarray | None
    seed: int | None

    @property
    def kind(self) -> str:
        """How exactly a replay can be expected to agree.

        Files of this toolkit hold the reset state and the seed: every state of the replay has the same bits. Official
        files hold only states in mid-episode, without the controller's goal, the gripper's ramp and the furniture's
        place: their replay starts from the first state without waiting, and agrees in its outcome in most cases.
        """
        return EXACT if self.reset_state is not None and self.seed is not None else FROM_STATE

    @property
    def start(self) -> tuple[np.ndarray, int, int]:
        """State to reset to, seed, and idle steps before the first action."""
        if self.reset_state is not None and self.seed is not None:
            return self.reset_state, self.seed, WAIT_STEPS
        return self.states[0], self.seed or 0, 0

    def states_hash(self, steps: int) -> str:
        """What `Outcome.states_hash` is if the first `steps` steps agree to the last bit."""
        digest = hashlib.sha256()
        for state in self.states[:steps]:
            digest.update(np.ascontiguousarray(state, dtype=np.float64).tobytes())
        return digest.hexdigest()[:16]


def find_demonstration_file(root: Path, task_name: str) -> Path | None:
    """The file of a task below `root`, or None."""
    return next(iter(sorted(root.rglob(f"{task_name}_demo.hdf5"))), None)


def read_demonstrations(path: Path, limit: int | None = None) -> list[Demonstration]:
    """Actions and states of the first `limit` demonstrations of a file, in order of their numbers; no images.

    Raises:
        OSError: the file can't be read.
        ValueError: it has no demonstrations with states.
    """
    found = []
    with h5py.File(path) as file:
        data = file.get("data", {})
        names = sorted((name for name in data if name[5:].isdigit()), key=lambda name: int(name[5:]))
        for name in names[:limit]:
            group = data[name]
            if "states" not in group or "actions" not in group:
                raise ValueError(f"{path}: {name}: a replay needs 'states' and 'actions'")
            reset, seed = group.attrs.get("reset_state"), group.attrs.get("seed")
            found.append(
                Demonstration(
                    f"{path.name} {name}",
                    np.asarray(group["actions"], np.float64),
                    np.asarray(group["states"], np.float64),
                    None if reset is None else np.asarray(reset, np.float64),
                    None if seed is None else int(seed),
                )  # fmt: skip
            )
    if not found:
        raise ValueError(f"{path}: no demonstrations (data/demo_<i>)")
    return found


def check_replay(suite: str, root: Path | None) -> Check:
    """Play a demonstration again and see whether it succeeds, and with the same bits.

    Args:
        suite: the simulator's name.
        root: folder of recorded demonstrations; the first task that has a file is taken. Without one (None, or a
            folder of another suite) the expert plays an episode of task 0 that is then played again.
    """
    load_libero()
    for task in list_tasks(suite):
        path = None if root is None else find_demonstration_file(root, task.name)
        if path is not None:
            env = LiberoEnv(task, cameras=())
            try:
                return _replay(env, read_demonstrations(path, limit=1)[0])
            finally:
                env.close()
    return _replay_expert(suite)


def _replay(env: LiberoEnv, demo: Demonstration) -> Check:
    state, seed, wait_steps = demo.start
    env.reset_to(state, seed, wait_steps=wait_steps, render=False)
    differing, reached, steps = None, False, 0
    for steps, action in enumerate(demo.actions, start=1):
        if differing is None and not np.array_equal(env.state, demo.states[steps - 1]):
            differing = steps - 1
        _, reached = env.step(action, render=False)
        if reached:
            break
    exact = "all states equal to the last bit" if differing is None else f"states differ from step {differing} on"
    outcome = f"success after {steps} steps" if reached else "no success"
    good = reached and (differing is None or demo.kind == FROM_STATE)
    return Check("replay", "passed" if good else "failed", f"{demo.label} ({demo.kind}): {outcome}, {exact}")


def _replay_expert(suite: str) -> Check:
    """An expert episode, played again in another environment with cameras."""
    from vla.evaluation.simulator.episodes import search_success
    from vla.evaluation.simulator.expert import ExpertError

    task = list_tasks(suite)[0]
    env = LiberoEnv(task, cameras=())
    try:
        rollout, _ = search_success(env, seed=1000)
    except ExpertError as error:
        return Check("replay", "skipped", f"no demonstrations are given, and the expert can't play: {error}")
    finally:
        env.close()
    if not rollout.success:
        return Check("replay", "skipped", f"no demonstrations are given, and the expert failed at {task.name}")
    label = f"an expert episode of {task.name}"
    demo = Demonstration(label, rollout.actions, rollout.states, rollout.reset_state, rollout.seed)
    env = LiberoEnv(task, 128)
    try:
        return _replay(env, demo)
    finally:
        env.close()
