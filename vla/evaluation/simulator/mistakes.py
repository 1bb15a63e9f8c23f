"""Mistakes that the expert makes on purpose, so that demonstrations show how one is made good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from vla.evaluation.simulator.grasping import Grasp
from vla.evaluation.simulator.libero_env import CLOSE
from vla.evaluation.simulator.motion import Hand, command

# Metres by which a grasp misses: a whole jaw beside the object, or too high with the hand about where it belongs.
_BESIDE, _TOO_HIGH, _ABOUT = (0.045, 0.06), (0.025, 0.06), 0.015
_UNNOTICED = 25  # the most steps for which the empty hand then goes on
_RISE = 0.12  # metres over the grasp that it strives to on its way
_LEGS, _LEG_STEPS = 2, (5, 16)  # of a hand that gets lost: ways, and control steps of each
_REACH = np.array([1.0, 1.0, 0.6, 0.3, 0.3, 0.3])  # the most of an action's range that it moves and turns with


@dataclass(frozen=True)
class LostHand:
    """The hand begins where no script would bring it, and turned as none would turn it.

    Attributes:
        pushes: [T, 6] motion of the first actions, in [-1, 1].
    """

    pushes: np.ndarray

    @classmethod
    def draw(cls, generator: np.random.Generator) -> LostHand:
        """Two straight ways of different directions."""
        legs = [generator.uniform(-_REACH, _REACH) for _ in range(_LEGS)]
        return cls(np.concatenate([np.tile(leg, (int(generator.integers(*_LEG_STEPS)), 1)) for leg in legs]))

    def wander(self, hand: Hand) -> Iterator[np.ndarray]:
        """Get lost, with open fingers."""
        hand.phase = "wander"
        for push in self.pushes:
            yield command(push[:3], push[3:])


@dataclass(frozen=True)
class MissedGrasp:
    """The first grasp of an episode goes wrong.

    Attributes:
        along: metres along the jaws.
        across: metres across them.
        up: metres.
        unnoticed: control steps for which the hand goes on as if it held the object.
    """

    along: float
    across: float
    up: float
    unnoticed: int

    @classmethod
    def draw(cls, generator: np.random.Generator) -> MissedGrasp:
        """Beside the object or too high, with equal probability."""
        unnoticed = int(generator.integers(_UNNOTICED + 1))
        along, across = generator.uniform(-_ABOUT, _ABOUT, size=2)
        if generator.random() < 0.5:
            return cls(along, across, generator.uniform(*_TOO_HIGH), unnoticed)
        side = generator.choice([-1.0, 1.0])
        return cls(side * generator.uniform(*_BESIDE), across, 0.0, unnoticed)

    def displace(self, grasp: Grasp) -> Grasp:
        """The grasp that is tried instead."""
        jaws, beside = grasp.rotation[:, 0], grasp.rotation[:, 1]
        shift = self.along * jaws + self.across * beside + self.up * grasp.ascent
        return replace(grasp, position=grasp.position + shift)

    def go_on(self, hand: Hand, grasp: Grasp, centre: np.ndarray) -> Iterator[np.ndarray]:
        """Carry nothing from a grasp towards `centre` [2] metres."""
        hand.phase = "carry nothing"
        target = np.array([*centre, grasp.position[2] + _RISE])
        for _ in range(self.unnoticed):
            yield hand.servo(target, grasp.rotation, CLOSE, 1.0)
