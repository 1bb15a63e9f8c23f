"""Injecting a fault into an episode: which one, how strong, and from which step on."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla.evaluation.simulator.distractor import Distractor
from vla.evaluation.simulator.faults import Blur, CameraShift, Fault, GripperStuck, Light, ObjectRemoved
from vla.evaluation.simulator.libero_env import Observation

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault for fault in (CameraShift, Blur, Light, Distractor, ObjectRemoved, GripperStuck)
}


@dataclass(frozen=True)
class FaultSpec:
    """A fault to be injected.

    Attributes:
        name: of `FAULTS`.
        strength: > 0; what 1 means is said by each fault.
        onset: first and last control step of those at which it may begin; which one is drawn for each episode.
    """

    name: str
    strength: float = 1.0
    onset: tuple[int, int] = (10, 80)

    @property
    def key(self) -> str:
        """`camera_shift`, or with another strength than 1 `camera_shift:0.5`"""
        return self.name if self.strength == 1.0 else f"{self.name}:{self.strength:g}"


class Injection:
    """A fault in one episode; without a specification, nothing happens.

    The onset and all that a fault draws follow from the episode and the fault's name: another strength begins at the
    same step and goes in the same direction.

    Args:
        spec: which.
        episode: `Episode.key`.
        camera: see `Fault`.

    Attributes:
        onset: number of the first step whose frame shows the fault and whose action it changes; None without one.
        begun: the onset once it was reached, else None.
    """

    def __init__(self, spec: FaultSpec | None, episode: str, camera: str) -> None:
        self.onset: int | None = None
        self.begun: int | None = None
        self._camera = camera
        self._fault: Fault | None = None
        if spec is not None:
            seed = hashlib.sha256(json.dumps([episode, spec.name]).encode()).digest()[:8]
            generator = np.random.default_rng(int.from_bytes(seed, "little"))
            self.onset = int(generator.integers(max(spec.onset[0], 1), spec.onset[1], endpoint=True))
            self._fault = FAULTS[spec.name](spec.strength, camera, generator)

    def prepared(self, env: Any) -> contextlib.AbstractContextManager[None]:
        """The episode, its reset too, is played inside of this."""
        return contextlib.nullcontext() if self._fault is None else self._fault.prepared(env)

    def observed(self, step: int, observation: Observation) -> Observation:
        """What is seen before control step `step`."""
        if self._fault is None or self.onset is None or step < self.onset:
            return observation
        self.begun = self.onset
        if self._camera not in observation.images:
            return observation
        images = {**observation.images, self._camera: self._fault.frame(observation.images[self._camera])}
        return replace(observation, images=images)

    def acted(self, env: Any, step: int, action: np.ndarray) -> np.ndarray:
        """The command [7] that is executed at `step`, just before it is; changes the scene when it is time to."""
        if self._fault is None or self.onset is None:
            return action
        if step + 1 == self.onset:  # the frame after this step is the first one to show it
            self._fault.begin(env)
        elif step + 1 > self.onset:
            self._fault.advance(env)
        if step + 1 == self.onset or step >= self.onset:
            changed = self._fault.action(action)
            return changed if step >= self.onset else action  # the last command before the onset is what is held
        return action
