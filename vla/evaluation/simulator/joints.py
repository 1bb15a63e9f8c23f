"""Furniture's joints: where a part of a drawer, door or knob goes, and which way a goal wants it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.evaluation.simulator.grasping import part_boxes
from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.motion import rotation_about
from vla.evaluation.simulator.placing import SLIDE, ExpertError

# A goal's predicate -> LIBERO's name of the range of joint values in which it holds.
RANGES = {
    "open": "default_open_ranges",
    "close": "default_close_ranges",
    "turnon": "default_turnon_ranges",
    "turnoff": "default_turnoff_ranges",
}
# Share of the goal's range that a joint goes on beyond its edge; a drawer should leave all the room it can.
_AFTER = {"open": 0.75, "turnon": 0.25}
_SLACK = 0.006  # metres or radians short of the aim that will do


@dataclass(frozen=True)
class JointGoal:
    """A joint, and the value to bring it to.

    Attributes:
        env: the task.
        goal: the predicate and its object or region.
        owner: the piece of furniture.
        joint: the joint's name.
        aim: value in metres or radians at which the predicate holds with something to spare.
    """

    env: LiberoEnv
    goal: tuple[str, str]
    owner: str
    joint: str
    aim: float

    @property
    def value(self) -> float:
        """Metres or radians."""
        return float(self.env.sim.data.qpos[self._model.jnt_qposadr[self._index]])

    @property
    def direction(self) -> float:
        """+1 or -1: how the value has to change."""
        return 1.0 if self.aim > self.value else -1.0

    @property
    def slides(self) -> bool:
        """Whether the part moves along a line, not about a hinge."""
        return bool(self._model.jnt_type[self._index] == SLIDE)

    @property
    def axis(self) -> np.ndarray:
        """[3] unit vector, world."""
        return np.array(self.env.sim.data._data.xaxis[self._index])

    @property
    def anchor(self) -> np.ndarray:
        """[3] metres, world: a point of the axis."""
        return np.array(self.env.sim.data._data.xanchor[self._index])

    def reached(self) -> bool:
        """Whether the goal's predicate holds."""
        return bool(self.env.inner._eval_predicate(list(self.goal)))

    def done(self) -> bool:
        """Whether the predicate holds, and an opened drawer is as wide open as it should be."""
        short = abs(self.aim) - abs(self.value) if self.goal[0] == "open" and self.slides else 0.0
        return self.reached() and short < _SLACK

    def carried(self, point: np.ndarray, change: float) -> np.ndarray:
        """Where a point [3] of the part goes when the joint's value changes by metres or radians."""
        if self.slides:
            return point + change * self.axis
        return self.anchor + rotation_about(self.axis, change) @ (point - self.anchor)

    def towards(self, point: np.ndarray) -> np.ndarray:
        """[3] unit vector, world: how a point of the part moves when the joint goes to the goal."""
        way = self.carried(point, 1e-4 * self.direction) - point
        return np.asarray(way / np.linalg.norm(way))

    def corners(self) -> np.ndarray:
        """[N, 8, 3] metres, world: the collision boxes of the part."""
        return part_boxes(self.env, self.joint)

    @property
    def _model(self) -> Any:
        return self.env.sim.model._model

    @property
    def _index(self) -> int:
        return int(self._model.joint(self.joint).id)


def joint_goal(env: LiberoEnv, goal: list[str]) -> JointGoal:
    """Find the joint of ["open" | "close" | "turnon" | "turnoff", object or region].

    Raises:
        ExpertError: another kind of goal, or an object without such a joint.
    """
    if len(goal) != 2 or goal[0] not in RANGES:
        raise ExpertError(f"no script for the goal {goal}")
    predicate, name = goal
    site = env.inner.object_sites_dict.get(name)
    owner = name if site is None else site.parent_name
    parent = env.inner.get_object(owner) if owner else None
    joints = list(getattr(parent if site is None else site, "joints", None) or ())
    limits = parent.object_properties.get("articulation", {}).get(RANGES[predicate]) if parent is not None else None
    if len(joints) != 1 or not limits:
        raise ExpertError(f"no script for the goal {goal}: {name} has no joint for it")
    model = env.sim.model._model
    index = model.joint(joints[0]).id
    value = float(env.sim.data.qpos[model.jnt_qposadr[index]])
    near, far = sorted(limits, key=lambda limit: abs(limit - value))
    aim = near + _AFTER.get(predicate, 0.0) * (far - near)
    if predicate in ("close", "turnoff"):  # as far as it goes
        aim = min(model.jnt_range[index], key=lambda limit: abs(limit - near))
    return JointGoal(env, (predicate, name), owner, joints[0], float(aim))
