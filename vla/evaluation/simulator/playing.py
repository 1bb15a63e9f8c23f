"""Playing one episode in the process that holds the simulator."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from vla.conf.libero import WAIT_STEPS
from vla.evaluation.simulator.chunks import ChunkExecutor, FrameHistory, environment_action
from vla.evaluation.simulator.injection import Injection
from vla.evaluation.simulator.libero_env import CAMERAS, Observation, upright
from vla.evaluation.simulator.messages import Job, Outcome, PolicyInput

BEAT_STEPS = 40
STOPPED = "stopped"  # message of an episode that the policy's side ended


class SimulationError(RuntimeError):
    """The simulator itself raised in an episode."""


AskPolicy = Callable[[PolicyInput], np.ndarray]  # -> [chunk, 7] in the simulator's units, gripper in [-1, +1 closed]


class Environment(Protocol):
    """What playing needs of `LiberoEnv`."""

    task: Any
    reset_state: np.ndarray

    @property
    def state(self) -> np.ndarray: ...

    def reset_to(
        self, initial_state: np.ndarray | None, seed: int, wait_steps: int = ..., render: bool = ...
    ) -> Observation: ...

    def step(self, action: np.ndarray, render: bool = ...) -> tuple[Observation, bool]: ...

    def close(self) -> None: ...


class _Timer:
    """Adds up wall time by what it was spent on."""

    def __init__(self) -> None:
        self.seconds = {"reset": 0.0, "simulate": 0.0, "wait_for_policy": 0.0}

    def measure(self, part: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            self.seconds[part] += time.perf_counter() - start


def play(
    env: Environment, job: Job, initial_state: np.ndarray | None, ask: AskPolicy, alive: Callable[[], None]
) -> Outcome:
    """Play `job` to success, to the horizon, or until there is nothing to do.

    Args:
        env: of the job's task.
        job: the episode and its protocol.
        initial_state: [1 + nq + nv]; None places the objects at random by the seed.
        ask: gives the chunk that starts at the present step; an empty one ends the episode.
        alive: called now and then, so that a long episode isn't taken for a hang.

    Raises:
        ValueError: the policy predicted NaN, or too short a chunk.
    """
    injection = Injection(job.fault, job.episode.key, job.protocol.simulator_cameras[0])
    with injection.prepared(env):
        return _play(env, job, initial_state, ask, alive, injection)


def _play(
    env: Environment, job: Job, initial_state: np.ndarray | None, ask: AskPolicy, alive: Callable[[], None],
    injection: Injection,
) -> Outcome:  # fmt: skip
    protocol, timer = job.protocol, _Timer()
    actions = job.actions
    if actions is None and job.actor == "expert":
        actions = timer.measure("simulate", _expert_actions, env, job, initial_state)
    scripted = actions is not None
    horizon = min(protocol.horizon, len(actions)) if actions is not None else protocol.horizon

    def wanted(step: int) -> bool:
        film = job.film_every and step % job.film_every == 0
        return bool(film or (not scripted and protocol.frame_needed(step)))

    seed, wait = job.episode.seed, protocol.wait_steps
    observation = timer.measure("reset", _simulate, env.reset_to, initial_state, seed, wait, render=wanted(0))
    history = FrameHistory(protocol.num_frames, protocol.frame_stride)
    executor = ChunkExecutor(protocol.execute_steps, protocol.ensemble)
    digest, executed, film = hashlib.sha256(), [], []
    rendered, reached, message = 0, False, ""
    for step in range(horizon):
        observation = injection.observed(step, observation)
        if observation.images:
            rendered += 1
            if job.film_every and step % job.film_every == 0:
                film.append(_film_frame(observation))
        if actions is not None:
            action = actions[step]
        else:
            if observation.images:
                history.add(step, np.stack([observation.images[name] for name in protocol.simulator_cameras]))
            if executor.wants_chunk(step):
                asked = PolicyInput(history.window(step), observation.proprio, job.instruction, job.episode, step)
                chunk = timer.measure("wait_for_policy", ask, asked)
                if not len(chunk):
                    message = STOPPED
                    break
                executor.add(step, chunk)
            action = executor.action(step)
        digest.update(env.state.tobytes())
        executed.append(injection.acted(env, step, environment_action(action)))
        observation, reached = timer.measure("simulate", _simulate, env.step, executed[-1], render=wanted(step + 1))
        if reached:
            break
        if step % BEAT_STEPS == BEAT_STEPS - 1:
            alive()
    return Outcome(
        job.episode, "success" if reached else "failure", len(executed), np.array(executed).reshape(-1, 7),
        hashlib.sha256(env.reset_state.tobytes()).hexdigest()[:16], digest.hexdigest()[:16],
        {name: round(value, 4) for name, value in timer.seconds.items()}, rendered, message=message,
        film=np.stack(film) if film else None, onset=injection.begun,
    )  # fmt: skip


def _simulate(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a simulation that has come apart raises is an error of its episode and no wrong argument, though it may be a
    ValueError, as NumPy's of a singular matrix is.
    """
    try:
        return function(*arguments, **options)
    except ValueError as error:
        raise SimulationError(f"{type(error).__name__}: {error}") from error


def _film_frame(observation: Observation) -> np.ndarray:
    """uint8 [H, cameras * W, 3]: what people see."""
    names = [name for name in CAMERAS if name in observation.images]
    return np.concatenate([upright(observation.images[name]) for name in names], axis=1)


def _expert_actions(env: Any, job: Job, initial_state: np.ndarray | None) -> np.ndarray:
    """The expert looks for a success without cameras; its actions are then judged like any policy's."""
    from vla.evaluation.simulator.episodes import search_success

    if job.protocol.wait_steps != WAIT_STEPS:
        raise ValueError(f"wait_steps: the expert needs {WAIT_STEPS}, got {job.protocol.wait_steps}")
    rollout, _ = _simulate(search_success, env, job.episode.seed, initial_state)
    return rollout.actions
