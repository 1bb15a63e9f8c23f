"""A scripted expert with privileged state: picks the goal's object and places it, checking and retrying."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from vla.evaluation.simulator.grasping import HAND_BASE, Grasp, boxes, plan_grasp
from vla.evaluation.simulator.libero_env import ACTION_DIM, CLOSE, OPEN, LiberoEnv

# One unit of action commands this much, relative to the current pose.
METRES_PER_UNIT, RADIANS_PER_UNIT = 0.05, 0.5
_GAIN = 1.6  # the controller covers about a quarter of a command per step; more gain makes it overshoot
_TRIES = 3  # picks of one object before giving up
_HOVER = 0.04  # metres over the object's top while the hand is not yet above the grasp
_NEAR_STEPS = 15  # after so many steps over the grasp the hand may come down less exactly
_CLOSE_STEPS = 8  # the gripper's command ramps up over this many steps
_PROOF = 0.05  # metres the hand rises before the object must have come along
_LOST = 0.05  # metres between hand and object more than when it was picked: it has been dropped
_CLEARANCE = 0.03  # metres between what is carried and what it passes over
_MARGIN = 0.01  # the least of it before moving sideways at all
_LOOK_AHEAD = 0.15  # metres of the way that have to be clear for that
_CORRIDOR = 0.10  # metres to each side of the way that count as under it
# The grip site looking down with its jaws, along its own x axis, on the world's y axis: the arm's start pose.
_TOOL_DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


class ExpertError(RuntimeError):
    """The expert has no script for this goal, or gave up."""


@dataclass(frozen=True)
class Placement:
    """Where an object goes.

    Attributes:
        centre: [2] metres, world: where the object's centre goes.
        surface: metres: height of what its bottom comes down to.
        rim: metres: height that its bottom has to pass on the way in.
        drop: metres between surface and the object's bottom at which the gripper opens.
    """

    centre: np.ndarray
    surface: float
    rim: float
    drop: float


def placement_for(env: LiberoEnv, goal: list[str]) -> Placement:
    """Work out where the goal wants its object.

    Args:
        env: the task.
        goal: ["in" or "on", object, region or object].

    Raises:
        ExpertError: another kind of goal.
    """
    if len(goal) != 3 or goal[0] not in ("in", "on"):
        raise ExpertError(f"no script for the goal {goal}")
    relation, _, target = goal
    sites = env.inner.object_sites_dict
    if relation == "in" and target in sites and sites[target].parent_name in env.movable_objects:
        corners = boxes(env, sites[target].parent_name)
        flat = corners.reshape(-1, 3)
        centre = (flat.min(axis=0) + flat.max(axis=0))[:2] / 2
        # The floor of a basket is its box with the lowest top.
        return Placement(centre, float(corners[..., 2].max(axis=1).min()), float(flat[:, 2].max()), drop=0.03)
    if target in env.movable_objects:
        top = float(boxes(env, target)[..., 2].max())
        position = env.sim.data.body_xpos[env.inner.obj_body_id[target]]
        return Placement(np.array(position[:2]), top, top, drop=0.012)
    if target in sites:
        position = env.sim.data.get_site_xpos(target)
        return Placement(np.array(position[:2]), float(position[2]), float(position[2]), drop=0.012)
    raise ExpertError(f"no script for the goal {goal}")


def tallest_between(env: LiberoEnv, name: str, start: np.ndarray, end: np.ndarray) -> float:
    """Return the height in metres of the highest thing, other than `name`, near the segment start [2] to end [2]."""
    way = end - start
    length = max(float(way @ way), 1e-9)
    tallest = -np.inf
    for other in env.movable_objects + env.fixtures:
        if other == name:
            continue
        corners = boxes(env, other).reshape(-1, 3)
        along = np.clip((corners[:, :2] - start) @ way / length, 0.0, 1.0)
        near = np.linalg.norm(start + along[:, None] * way - corners[:, :2], axis=1) < _CORRIDOR
        tallest = max(tallest, float(corners[near, 2].max(initial=-np.inf)))
    return tallest


class ScriptedExpert:
    """Yields one action per control step; reads the simulator's state, so it also recovers from disturbed actions.

    Args:
        env: the task, just reset.
        rim_angle: where to hold a bowl, in radians; None lets the planner choose.

    Attributes:
        finished: whether the script has run to its end.
        used_rim: whether it has planned to hold something by the rim.
        phase: what it is doing, for messages.

    Raises:
        ExpertError: at construction, no script for the task's goals.
    """

    def __init__(self, env: LiberoEnv, rim_angle: float | None = None) -> None:
        self._env = env
        self._rim_angle = rim_angle
        for goal in env.goals:
            placement_for(env, goal)
        self._script = self._run()
        self.finished = False
        self.used_rim = False
        self.phase = "start"

    def act(self) -> np.ndarray:
        """Return the next action [7] in [-1, 1]; idles with an open gripper when the script is over."""
        action = next(self._script, None)
        if action is None:
            self.finished = True
            self.phase = "finished"
            action = self._command(np.zeros(3), np.zeros(3), OPEN)
        return action

    # --- the script ---

    def _run(self) -> Iterator[np.ndarray]:
        for goal in self._env.goals:
            for attempt in range(_TRIES):
                grasp = plan_grasp(self._env, goal[1], self._rim_angle, lower=0.005 * attempt)
                self.used_rim |= grasp.kind == "rim"
                if not (yield from self._pick(goal[1], grasp)):
                    continue
                if (yield from self._place(goal[1], placement_for(self._env, goal), grasp)):
                    break
            else:
                return

    def _pick(self, name: str, grasp: Grasp) -> Generator[np.ndarray, None, bool]:
        """Grasp and lift a little; whether the object came along."""
        yield from self._approach(grasp)
        yield from self._close(grasp)
        self.phase = "lift"
        rested, above = self._centre(name)[2], grasp.position + np.array([0.0, 0.0, 3 * _PROOF])
        for _ in range(20):
            yield self._servo(above, grasp.yaw, CLOSE, 1.0)
            if self._hand()[2] - grasp.position[2] > _PROOF:
                break
        return bool(self._centre(name)[2] - rested > 0.5 * _PROOF)

    def _close(self, grasp: Grasp) -> Iterator[np.ndarray]:
        """Close until the fingers have stood still for long enough to press with their full force."""
        self.phase = "close"
        still, before = 0, np.inf
        for step in range(16):
            fingers = self._fingers()
            still = still + 1 if before - fingers < 0.0004 else 0
            if step >= _CLOSE_STEPS and still >= 5:
                return
            before = fingers
            yield self._servo(grasp.position, grasp.yaw, CLOSE, 0.2)

    def _approach(self, grasp: Grasp) -> Iterator[np.ndarray]:
        """Come down on the grasp in a funnel: the further beside it the hand still is, the higher it stays."""
        self.phase = "approach"
        hover = max(grasp.top - grasp.position[2], 0.0) + _HOVER
        slack, near_for = 0.0, 0
        for _ in range(90):
            hand = self._hand()
            beside = float(np.linalg.norm(grasp.position[:2] - hand[:2]))
            turn = float(np.linalg.norm(self._turn(grasp.yaw)))
            # A stretched arm keeps a small error for good: ask for less the longer the hand hovers near.
            near_for += beside < 0.02
            slack += 0.0005 if near_for > _NEAR_STEPS else 0.0
            arrived = max(beside, hand[2] - grasp.position[2]) < 0.006 + slack
            if arrived and turn < 0.06 + 10.0 * slack:
                return
            # A turn of the hand moves the finger tips, about 5 cm from its middle.
            error = beside + 0.05 * turn
            target = grasp.position.copy()
            target[2] += np.clip(8.0 * (error - 0.004 - slack), 0.0, hover)
            yield self._servo(target, grasp.yaw, OPEN, 1.0)

    def _place(self, name: str, place: Placement, grasp: Grasp) -> Generator[np.ndarray, None, bool]:
        """Carry over and let go; whether the object was still in the hand then."""
        self.phase = "carry"
        held_at = float(np.linalg.norm(self._hand() - self._centre(name)))
        hang = self._hand()[2] - float(boxes(self._env, name)[..., 2].min())
        over = max(place.rim, tallest_between(self._env, name, self._centre(name)[:2], place.centre))
        # The hand is wider than a basket: let go above the rim rather than press on it.
        low = max(place.surface + place.drop + hang, place.rim + _MARGIN - HAND_BASE)
        travel = max(over + hang + _CLEARANCE, low)
        arrived = False
        for _ in range(160):
            hand, centre = self._hand(), self._centre(name)
            if np.linalg.norm(hand - centre) > held_at + _LOST:
                return False
            # Steer the object's centre, not the hand's: it may have shifted between the fingers.
            way = place.centre - centre[:2]
            beside = float(np.linalg.norm(way))
            arrived = arrived or beside < 0.03
            if arrived and beside < 0.012 and hand[2] - low < 0.008:
                break
            ahead = centre[:2] + way * min(1.0, _LOOK_AHEAD / max(beside, 1e-9))
            bottom = hand[2] - hang
            rising = not arrived and bottom < tallest_between(self._env, name, centre[:2], ahead) + _MARGIN
            height = low + np.clip(5.0 * (beside - 0.010), 0.0, max(travel - low, 0.0)) if arrived else travel
            target = np.array([*(hand[:2] if rising else hand[:2] + way), height])
            yield self._servo(target, grasp.yaw, CLOSE, 1.0)
        self.phase = "release"
        here = self._hand()
        for _ in range(_CLOSE_STEPS):
            yield self._servo(here, grasp.yaw, OPEN, 0.2)
        self.phase = "retreat"
        for _ in range(14):
            yield self._servo(here + np.array([0.0, 0.0, 0.15]), grasp.yaw, OPEN, 1.0)
        return True

    # --- motion ---

    def _servo(self, target: np.ndarray, yaw: float, grip: float, speed: float) -> np.ndarray:
        offset = _GAIN * (target - self._hand()) / METRES_PER_UNIT
        return self._command(np.clip(offset, -speed, speed), self._turn(yaw) / RADIANS_PER_UNIT, grip)

    @staticmethod
    def _command(move: np.ndarray, turn: np.ndarray, grip: float) -> np.ndarray:
        action = np.empty(ACTION_DIM)
        action[:3] = np.clip(move, -1.0, 1.0)
        action[3:6] = np.clip(turn, -1.0, 1.0)
        action[6] = grip
        return action

    def _hand(self) -> np.ndarray:
        return np.array(self._env.sim.data.get_site_xpos("gripper0_grip_site"))

    def _fingers(self) -> float:
        """Distance in metres between the fingers."""
        left, right = self._env.sim.data.qpos[self._env.inner.robots[0]._ref_gripper_joint_pos_indexes]
        return float(left - right)

    def _turn(self, yaw: float) -> np.ndarray:
        """Axis-angle [3] in the world frame from the present orientation to the one looking down with `yaw`."""
        c, s = np.cos(yaw), np.sin(yaw)
        wanted = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ _TOOL_DOWN
        return rotation_vector(wanted @ np.array(self._env.sim.data.get_site_xmat("gripper0_grip_site")).T)

    def _centre(self, name: str) -> np.ndarray:
        return np.array(self._env.sim.data.body_xpos[self._env.inner.obj_body_id[name]])


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Turn a rotation matrix [3, 3] into an axis-angle vector [3] in radians, of length at most pi."""
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]) / 2
    sine, cosine = np.linalg.norm(axis), (np.trace(matrix) - 1) / 2
    if sine < 1e-9:  # no turn, or half a turn, which a gripper that looks down never needs
        return np.zeros(3)
    return axis / sine * np.arctan2(sine, cosine)
