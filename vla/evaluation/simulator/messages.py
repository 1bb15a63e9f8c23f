"""What the evaluating process and its simulator processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla.evaluation.simulator.injection import FaultSpec
from vla.evaluation.simulator.protocol import Protocol


@dataclass(frozen=True)
class Episode:
    """Names one episode of an evaluation.

    Attributes:
        suite: the simulator's name.
        task: index in the suite's official order.
        init_id: number of the official initial state, or of the recorded demonstration.
        seed: see `Protocol.seed`.
    """

    suite: str
    task: int
    init_id: int
    seed: int = 0

    @property
    def key(self) -> str:
        """`libero_object/task-03/init-12/seed-0`"""
        return f"{self.suite}/task-{self.task:02d}/init-{self.init_id:02d}/seed-{self.seed}"


@dataclass(frozen=True)
class Job:
    """An episode and how it is played.

    Attributes:
        episode: which.
        protocol: how.
        instruction: what the policy is told; "" is the task's own language.
        actor: remote (asks the evaluating process for chunks) | expert (the script, on privileged state).
        initial_state: [1 + nq + nv] in place of the official one.
        actions: [T, 7] to execute without asking anybody, in place of the actor.
        film_every: control steps between two frames of `Outcome.film`; 0: none.
        fault: what goes wrong in it.
    """

    episode: Episode
    protocol: Protocol
    instruction: str = ""
    actor: str = "remote"
    initial_state: np.ndarray | None = None
    actions: np.ndarray | None = None
    film_every: int = 0
    fault: FaultSpec | None = None


@dataclass(frozen=True)
class PolicyInput:
    """What a policy is asked about.

    Attributes:
        images: uint8 [S, H, W, 3] as the simulator renders them, rows bottom-up; S = num_frames x cameras, time-major:
            all cameras of the oldest frame first, in the protocol's order, as in the training data.
        proprio: float64 [8]: position in m, axis-angle rotation, finger positions in m.
        instruction: what to do.
        episode: which episode asks.
        step: control steps that it has executed.
    """

    images: np.ndarray
    proprio: np.ndarray
    instruction: str
    episode: Episode
    step: int


@dataclass(frozen=True)
class Outcome:
    """How an episode ended.

    Attributes:
        episode: which.
        status: success | failure | error.
        steps: control steps executed, the waiting not counted.
        actions: float64 [steps, 7] that reached the simulator; with the initial state and the seed they give the
            episode again, bit for bit.
        initial_state_hash: of the state that the episode was reset to.
        states_hash: of the states before every action; equal hashes are equal episodes to the last bit.
        seconds: wall time, by part: reset, simulate, wait_for_policy.
        rendered: frames rendered, per camera.
        attempts: 1, or 2 if the first one crashed or hung.
        message: of an error, or why it was ended early.
        film: uint8 [n, H, cameras * W, 3], upright, every `film_every`-th step.
        onset: first control step with the job's fault; None without one, or if the episode was over before.
        watched: control step and anomaly score of every frame that a watcher looked at.
    """

    episode: Episode
    status: str
    steps: int = 0
    actions: np.ndarray = field(default_factory=lambda: np.zeros((0, 7)))
    initial_state_hash: str = ""
    states_hash: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    rendered: int = 0
    attempts: int = 1
    message: str = ""
    film: np.ndarray | None = None
    onset: int | None = None
    watched: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Call:
    """Work for a simulator process that is no episode.

    Attributes:
        target: `module:function`; called with the arguments, its result comes back.
        arguments: keyword arguments.
    """

    target: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """A simulator process waits for a chunk of actions."""

    input: PolicyInput


@dataclass(frozen=True)
class Alive:
    """A simulator process is at work; what it does takes longer than usual."""


@dataclass(frozen=True)
class Done:
    """A simulator process has finished its job; `value` is an `Outcome`, or a call's result."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """A job raised; the process lives on with a new environment."""

    message: str
    user_error: bool  # installation or argument: trying again won't help
