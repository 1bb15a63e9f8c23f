"""The program of a simulator process: it takes jobs from the evaluating process, and never imports torch.

Started by `SimulatorPool` as `python -m vla.evaluation.simulator.worker FILE_DESCRIPTOR FACTORY`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.messages import Alive, Ask, Call, Done, Failed, Job, Outcome, PolicyInput
from vla.evaluation.simulator.playing import Environment, play
from vla.evaluation.simulator.runtime import SimulatorUnavailableError, list_tasks, load_libero, official_initial_states

# (suite, task, image_size, cameras) -> the environment and its official initial states [n, 1 + nq + nv]
Factory = Callable[[str, int, int, tuple[str, ...]], tuple[Environment, np.ndarray]]


def make_libero(suite: str, task: int, image_size: int, cameras: tuple[str, ...]) -> tuple[Environment, np.ndarray]:
    """One task of LIBERO.

    Raises:
        ValueError: the suite has no such task.
        SimulatorUnavailableError: the simulator is missing or of a wrong version.
    """
    load_libero()
    tasks = list_tasks(suite)
    if not 0 <= task < len(tasks):
        raise ValueError(f"tasks: {suite} has the tasks 0 to {len(tasks) - 1}, got {task}")
    return LiberoEnv(tasks[task], image_size, cameras), official_initial_states(tasks[task])


def resolve(target: str) -> Callable[..., Any]:
    """The function that `module:name` means."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


class Worker:
    """Serves jobs until the other end closes the connection; keeps the last task's environment open.

    Args:
        connection: to the evaluating process.
        factory: makes environments.
    """

    def __init__(self, connection: Connection, factory: Factory) -> None:
        self._connection, self._factory = connection, factory
        self._key: tuple[Any, ...] | None = None
        self._env: Environment | None = None
        self._states = np.empty((0, 0))

    def serve(self) -> None:
        """Answer every message with `Done` or `Failed`."""
        while True:
            try:
                message = self._connection.recv()
            except EOFError:  # the other end is gone
                return
            try:
                answer: Any = Done(self._handle(message))
            except Exception as error:
                self._drop()
                # Wrong arguments and a missing simulator don't get better by trying again; a hang may.
                hopeless = isinstance(error, (ValueError, SimulatorUnavailableError, ImportError))
                text = " ".join(str(error).split())
                answer = Failed(text if hopeless and text else f"{type(error).__name__}: {text}", hopeless)
            try:
                self._connection.send(answer)
            except BrokenPipeError:
                return

    def _handle(self, message: Job | Call) -> Any:
        if isinstance(message, Call):
            self._drop()  # it may make an environment of its own, and memory is short
            return resolve(message.target)(**message.arguments)
        return self._play(message)

    def _play(self, job: Job) -> Outcome:
        env, states = self._environment(job)
        initial = job.initial_state if job.initial_state is not None else states[job.episode.init_id % len(states)]
        return play(env, job, initial, self._ask, lambda: self._connection.send(Alive()))

    def _ask(self, asked: PolicyInput) -> np.ndarray:
        self._connection.send(Ask(asked))
        chunk: np.ndarray = self._connection.recv()
        return chunk

    def _environment(self, job: Job) -> tuple[Environment, np.ndarray]:
        episode, protocol = job.episode, job.protocol
        # A scripted episode that nobody films needs no OpenGL.
        looks = job.film_every or (job.actor == "remote" and job.actions is None)
        cameras = protocol.simulator_cameras if looks else ()
        key = (episode.suite, episode.task, protocol.image_size, cameras)
        if self._env is None or key != self._key:
            self._drop()
            self._env, self._states = self._factory(*key)
            self._key = key
        return self._env, self._states

    def _drop(self) -> None:
        env, self._env, self._key = self._env, None, None
        if env is not None:
            try:
                env.close()
            except Exception as error:  # a broken simulator may fail to close, too; a new one is made anyway
                print(f"closing the simulator failed: {error}", file=sys.stderr)


def main() -> None:
    """Serve the connection that was handed down as a file descriptor."""
    with Connection(int(sys.argv[1])) as connection:
        Worker(connection, resolve(sys.argv[2])).serve()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the simulator's own clean-up at interpreter exit only prints errors about OpenGL


if __name__ == "__main__":
    main()
