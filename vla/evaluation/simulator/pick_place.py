"""The expert's skills for things that can be picked up: approach, grasp, lift, carry, release."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from vla.evaluation.simulator.grasping import Grasp, boxes
from vla.evaluation.simulator.libero_env import CLOSE, OPEN
from vla.evaluation.simulator.motion import Hand
from vla.evaluation.simulator.placing import Placement, tallest_between

_HOVER = 0.04  # metres over the object's top while the hand is not yet above the grasp
_HALF_HAND = 0.10  # metres over what the hand passes while it turns
_NEAR_STEPS = 15  # after so many steps over the grasp the hand may come down less exactly
_CLOSE_STEPS = 8  # the gripper's command ramps up over this many steps
_PROOF = 0.05  # metres the hand rises before the object must have come along
_LOST = 0.05  # metres between hand and object more than when it was picked: it has been dropped
_CLEARANCE = 0.03  # metres between what is carried and what it passes over
_MARGIN = 0.01  # the least of it before moving sideways at all
_RETREAT = 0.15  # metres that the hand rises after letting go
_LOOK_AHEAD = 0.15  # metres of the way that have to be clear for that


def pick(hand: Hand, name: str, grasp: Grasp, high: bool) -> Generator[np.ndarray, None, bool]:
    """Grasp and lift a little, with `high` after an approach above all that is near; whether the object came along."""
    yield from approach(hand, grasp, high)
    yield from close(hand, grasp.position, grasp.rotation)
    hand.phase = "lift"
    rested, above = _centre(hand, name)[2], grasp.position + 3 * _PROOF * grasp.ascent
    for _ in range(20):
        yield hand.servo(above, grasp.rotation, CLOSE, 1.0)
        if hand.position()[2] - grasp.position[2] > _PROOF:
            break
    return bool(_centre(hand, name)[2] - rested > 0.5 * _PROOF)


def approach(hand: Hand, grasp: Grasp, high: bool = False) -> Iterator[np.ndarray]:
    """Come down on the grasp in a funnel: the further beside it the hand still is, the higher it stays."""
    hand.phase = "approach"
    hover = max(grasp.top - grasp.position[2], 0.0) + _HOVER
    if high or grasp.tilt:  # a leaning hand turns far on its way and needs more room
        over = tallest_between(hand.env, "", hand.position()[:2], grasp.position[:2])
        hover = max(hover, over + (_HALF_HAND if grasp.tilt else _CLEARANCE) - grasp.position[2])
    slack, near_for = 0.0, 0
    for _ in range(90):
        here = hand.position()
        height = here[2] - grasp.position[2]
        beside = float(np.linalg.norm(grasp.position[:2] + height * grasp.ascent[:2] - here[:2]))
        turn = float(np.linalg.norm(hand.turn(grasp.rotation)))
        # A stretched arm keeps a small error for good: ask for less the longer the hand hovers near.
        near_for += beside < 0.02
        slack += 0.0005 if near_for > _NEAR_STEPS else 0.0
        arrived = max(beside, height) < 0.006 + slack
        if arrived and turn < 0.06 + 10.0 * slack:
            return
        # A turn of the hand moves the finger tips, about 5 cm from its middle.
        error = beside + 0.05 * turn
        target = grasp.position + np.clip(8.0 * (error - 0.004 - slack), 0.0, hover) * grasp.ascent
        yield hand.servo(target, grasp.rotation, OPEN, 1.0)


def close(hand: Hand, position: np.ndarray, rotation: np.ndarray) -> Iterator[np.ndarray]:
    """Close at a pose until the fingers have stood still for long enough to press with their full force."""
    hand.phase = "close"
    still, before = 0, np.inf
    for step in range(16):
        fingers = hand.fingers()
        still = still + 1 if before - fingers < 0.0004 else 0
        if step >= _CLOSE_STEPS and still >= 5:
            return
        before = fingers
        yield hand.servo(position, rotation, CLOSE, 0.2)


def place(hand: Hand, name: str, goal: Placement, grasp: Grasp) -> Generator[np.ndarray, None, bool]:
    """Carry over and let go; whether the object was still in the hand then."""
    if not (yield from carry(hand, name, goal, grasp)):
        return False
    yield from release(hand, grasp.rotation, _RETREAT * grasp.ascent)
    return True


def carry(hand: Hand, name: str, goal: Placement, grasp: Grasp) -> Generator[np.ndarray, None, bool]:
    """Bring an object over its place; whether it is still in the hand."""
    hand.phase = "carry"
    env = hand.env
    held_at = float(np.linalg.norm(hand.position() - _centre(hand, name)))
    hang = hand.position()[2] - float(boxes(env, name)[..., 2].min())
    over = max(goal.rim, tallest_between(env, name, _centre(hand, name)[:2], goal.centre))
    # The hand is wider than a basket: let go above the rim rather than press on it.
    low = max(goal.surface + goal.drop + hang, goal.rim + _MARGIN - grasp.hand_base)
    travel = max(over + hang + _CLEARANCE, low)
    arrived = False
    for _ in range(160):
        here, centre = hand.position(), _centre(hand, name)
        if np.linalg.norm(here - centre) > held_at + _LOST:
            return False
        # Steer the object's centre, not the hand's: it may have shifted between the fingers.
        way = goal.centre - centre[:2]
        beside = float(np.linalg.norm(way))
        arrived = arrived or beside < 0.03
        if arrived and beside < 0.012 and here[2] - low < 0.008:
            break
        ahead = centre[:2] + way * min(1.0, _LOOK_AHEAD / max(beside, 1e-9))
        bottom = here[2] - hang
        low_still = not grasp.tilt or here[2] < travel - _MARGIN  # a leaning hand rises aslant, maybe over other things
        rising = low_still and not arrived and bottom < tallest_between(env, name, centre[:2], ahead) + _MARGIN
        height = low + np.clip(5.0 * (beside - 0.010), 0.0, max(travel - low, 0.0)) if arrived else travel
        rise = max(height - here[2], 0.0) * grasp.ascent[:2]
        target = np.array([*(here[:2] + (rise if rising else way)), height])
        yield hand.servo(target, grasp.rotation, CLOSE, 1.0)
    return True


def release(hand: Hand, rotation: np.ndarray, back: np.ndarray) -> Iterator[np.ndarray]:
    """Open the fingers and move `back` [3] metres."""
    hand.phase = "release"
    here = hand.position()
    for _ in range(_CLOSE_STEPS):
        yield hand.servo(here, rotation, OPEN, 0.2)
    hand.phase = "retreat"
    for _ in range(14):
        yield hand.servo(here + back, rotation, OPEN, 1.0)


def _centre(hand: Hand, name: str) -> np.ndarray:
    return np.array(hand.env.sim.data.body_xpos[hand.env.inner.obj_body_id[name]])
