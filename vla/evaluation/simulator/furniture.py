"""The expert's skills for furniture: pull a handle, push a drawer or door shut, turn a knob."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla.evaluation.simulator.grasping import fill, plan_across, surroundings
from vla.evaluation.simulator.joints import JointGoal
from vla.evaluation.simulator.libero_env import CLOSE, OPEN
from vla.evaluation.simulator.motion import Hand, looking_down, rotation_about
from vla.evaluation.simulator.pick_place import approach, close, release
from vla.evaluation.simulator.placing import ExpertError, tallest_between

_UP = np.array([0.0, 0.0, 1.0])
_LEAD = 0.04  # metres that the hand's target runs ahead of the part
_KNOB_LEAD = 0.35  # radians
_STEPS, _STALLED = 110, 20  # most control steps of one motion; of those without progress
_STANDOFF = 0.07  # metres before a handle or door at which the hand lines up
_KNOB_GRIP = 0.025  # metres below a knob's top at which it is held
_PULL_TILT = 1.35  # radians from looking down: nearly level, but the knuckles stay clear of the table
_PUSH_TILT = 0.7
_PUSH_DEPTH = 0.025  # metres below a door's top edge at which it is pushed
_LEVER = (0.6, 0.9)  # shares of a door's width between which it is pushed
_HALF_HAND = 0.12  # metres from the grip site to the hand's farthest edge below it when it is level
_ROOM = 0.08  # metres that a drawer has to be open for fingers inside
_FRONT = 0.03  # metres from its outermost upright part within which all of it belongs to its front
_FINGER = 0.008  # metres: half a closed pair of finger tips


def turn_knob(hand: Hand, goal: JointGoal) -> Iterator[np.ndarray]:
    """Hold a knob from above and turn it about its axis."""
    corners = goal.corners()
    around = surroundings(hand.env, goal.owner)
    grasp = plan_across(corners, around, float(corners[..., 2].max()) - _KNOB_GRIP)
    if grasp is None:
        raise ExpertError(f"no script for the goal {list(goal.goal)}: the knob is too wide")
    yield from approach(hand, grasp)
    yield from close(hand, grasp.position, grasp.rotation)
    hand.phase = "turn"
    start = goal.value
    for _ in _until_reached(goal):
        change = goal.value - start + goal.direction * _KNOB_LEAD
        rotation = rotation_about(goal.axis, change) @ grasp.rotation
        yield hand.servo(goal.carried(grasp.position, change), rotation, CLOSE, 1.0)
    yield from release(hand, hand.rotation(), back=0.15 * _UP)


def open_drawer(hand: Hand, goal: JointGoal) -> Iterator[np.ndarray]:
    """Pull at the handle, or, where there is room for the fingers, push the front out from within."""
    return (_push_out if abs(goal.value) > _ROOM else _pull)(hand, goal)


def _push_out(hand: Hand, goal: JointGoal) -> Iterator[np.ndarray]:
    corners = goal.corners()
    out = goal.towards(corners.reshape(-1, 3).mean(axis=0))
    tall = corners[np.ptp(corners[..., 2], axis=1) > 0.6 * np.ptp(corners[..., 2])]
    reach = tall @ out
    front = tall[(reach.min(axis=1) > reach.max() - _FRONT)]
    contact = front.reshape(-1, 3).mean(axis=0)
    contact += out * ((front @ out).min() - contact @ out)
    contact[2] = front[..., 2].max() - _PUSH_DEPTH
    rotation = _facing(-out, 0.0, upright_jaws=False)
    yield from _line_up(hand, goal.owner, contact - 3 * _FINGER * out, rotation, CLOSE)
    hand.phase = "push"
    start = goal.value
    for _ in _until_reached(goal):
        yield hand.servo(goal.carried(contact, goal.value - start) + _LEAD * out, rotation, CLOSE, 1.0)
    yield from _rise(hand, rotation, OPEN)


def _pull(hand: Hand, goal: JointGoal) -> Iterator[np.ndarray]:
    """Hold a drawer's bar with one finger above it and one below, and draw it out."""
    corners = goal.corners()
    out = goal.towards(corners.reshape(-1, 3).mean(axis=0))
    bar = _outermost(corners, out).mean(axis=0)
    rotation = _facing(-out, _PULL_TILT, upright_jaws=True)
    yield from _line_up(hand, goal.owner, bar + _STANDOFF * out, rotation, OPEN)
    yield from _reach(hand, bar, rotation, OPEN)
    yield from close(hand, bar, rotation)
    hand.phase = "pull"
    start, offset = goal.value, hand.position() - bar
    for _ in _until_reached(goal):
        held = goal.carried(bar, goal.value - start)
        yield hand.servo(held + offset + _LEAD * out, rotation, CLOSE, 1.0)
    yield from release(hand, rotation, back=_STANDOFF * out)
    yield from _rise(hand, rotation, OPEN)


def push_shut(hand: Hand, goal: JointGoal) -> Iterator[np.ndarray]:
    """Push a drawer's front, or a door near its free edge, with closed fingers."""
    corners = goal.corners()
    if goal.slides:
        way = goal.towards(corners.reshape(-1, 3).mean(axis=0))
        front = _outermost(corners, -way)
        contact = front.mean(axis=0)
        contact += way * ((front @ way).min() - contact @ way)
        rotation = _facing(way, _PUSH_TILT, upright_jaws=False)
    else:
        contact = _door_contact(goal, corners)
        rotation = looking_down(0.0)
    way = goal.towards(contact)
    yield from _line_up(hand, goal.owner, contact - _STANDOFF * way, rotation, CLOSE)
    hand.phase = "push"
    start = goal.value
    for _ in _until_reached(goal):
        here = goal.carried(contact, goal.value - start)
        yield hand.servo(here + (_LEAD - _FINGER) * goal.towards(here), rotation, CLOSE, 1.0)
    here = hand.position() - _STANDOFF * goal.towards(hand.position())
    for _ in range(8):
        yield hand.servo(here, rotation, CLOSE, 1.0)
    yield from _rise(hand, rotation, OPEN)


def _door_contact(goal: JointGoal, corners: np.ndarray) -> np.ndarray:
    """A point [3] on the side of a door that it closes away from, near the free edge and the upper one."""
    points = fill(corners).reshape(-1, 3)
    points = points[points[:, 2] > points[:, 2].max() - 2 * _PUSH_DEPTH]
    lever = np.linalg.norm((points - goal.anchor)[:, :2], axis=1)
    points = points[(lever > _LEVER[0] * lever.max()) & (lever < _LEVER[1] * lever.max())]
    offset = points - goal.anchor
    middle = offset.mean(axis=0)
    # The angle of each point from the door's middle, counted the way in which it closes.
    angle = np.arctan2(middle[0] * offset[:, 1] - middle[1] * offset[:, 0], offset[:, :2] @ middle[:2])
    contact = points[int(np.argmin(angle * goal.direction * goal.axis[2]))].copy()
    contact[2] = corners[..., 2].max() - _PUSH_DEPTH
    return np.asarray(contact)


def _outermost(corners: np.ndarray, way: np.ndarray) -> np.ndarray:
    """The box [8, 3] of [N, 8, 3] that reaches farthest."""
    return np.asarray(corners[int(np.argmax((corners @ way).max(axis=1)))])


def _facing(way: np.ndarray, tilt: float, upright_jaws: bool) -> np.ndarray:
    """Orientation [3, 3] of a hand that leans by `tilt` radians from looking down towards a level direction [3].

    Args:
        way: unit vector.
        tilt: 0 looks down, pi / 2 along `way`.
        upright_jaws: whether the jaws close in the upright plane of `way`, or level.
    """
    fingers = np.sin(tilt) * way - np.cos(tilt) * _UP
    # Of the two ways round, the one with the lesser turn, or in which the wrist's last joint has room to lean.
    jaws = -np.cos(tilt) * way - np.sin(tilt) * _UP if upright_jaws else np.cross(way, _UP)
    return np.stack([jaws, np.cross(fingers, jaws), fingers], axis=1)


def _until_reached(goal: JointGoal) -> Iterator[int]:
    """Count steps until the joint is where it should be, or does not move any more."""
    best, since = goal.value, 0
    direction = goal.direction
    for step in range(_STEPS):
        if (goal.value - goal.aim) * direction >= 0.0 or since > _STALLED:
            return
        progress = (goal.value - best) * direction > 0.001
        best, since = (goal.value, 0) if progress else (best, since + 1)
        yield step


def _line_up(hand: Hand, owner: str, target: np.ndarray, rotation: np.ndarray, grip: float) -> Iterator[np.ndarray]:
    """Go above a pose, turning, and come down to it in a funnel."""
    hand.phase = "line up"
    over = tallest_between(hand.env, owner, hand.position()[:2], target[:2]) + _HALF_HAND
    hover = max(over - target[2], 0.05)
    for _ in range(90):
        here = hand.position()
        beside = float(np.linalg.norm(target[:2] - here[:2]))
        turn = float(np.linalg.norm(hand.turn(rotation)))
        if beside < 0.015 and turn < 0.1 and abs(here[2] - target[2]) < 0.015:
            return
        error = max(beside, 0.1 * turn)
        above = target + np.clip(8.0 * (error - 0.01), 0.0, hover) * _UP
        yield hand.servo(above, rotation, grip, 1.0)


def _reach(hand: Hand, target: np.ndarray, rotation: np.ndarray, grip: float) -> Iterator[np.ndarray]:
    """Go straight to a pose."""
    hand.phase = "reach"
    for step in range(40):
        if np.linalg.norm(target - hand.position()) < 0.006 + 0.0003 * step:
            return
        yield hand.servo(target, rotation, grip, 0.6)


def _rise(hand: Hand, rotation: np.ndarray, grip: float) -> Iterator[np.ndarray]:
    """Move up, out of the way of what comes next."""
    hand.phase = "rise"
    target = hand.position() + 0.15 * _UP
    for _ in range(14):
        yield hand.servo(target, rotation, grip, 1.0)
