"""Where the expert puts things: the goals' regions, the collision boxes below them and what already stands there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla.evaluation.simulator.grasping import boxes, part_boxes
from vla.evaluation.simulator.libero_env import LiberoEnv

SLIDE = 2  # MuJoCo's mjJNT_SLIDE: a joint that moves along a line
_CORRIDOR = 0.10  # metres to each side of the way that count as under it
_WALL = 0.012  # metres between a drawer's outer edge and what lies in it
_PASS = 0.003  # metres between what goes into a drawer and the furniture above that
_EDGE = 0.02  # metres that an object's centre keeps from the edge of a region that it shares
_SUPPORT = (0.01, 0.04)  # metres below and above a region's middle in which the surface that it marks is looked for
_DROP = 0.012  # metres above its support at which an object is let go


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

    def shift(self, env: LiberoEnv, name: str) -> np.ndarray:
        """[3] metres: how far an object has to move."""
        position = env.sim.data.body_xpos[env.inner.obj_body_id[name]]
        rise = self.surface + self.drop - float(boxes(env, name)[..., 2].min())
        return np.array([*(self.centre - position[:2]), rise])


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
    relation, name, target = goal
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
        return Placement(np.array(position[:2]), top, top, drop=_DROP)
    if target in sites:
        position = np.array(env.sim.data.get_site_xpos(target))
        drawer = drawer_of(env, target) if relation == "in" else None
        if drawer is not None:
            return _in_drawer(env, name, target, drawer)
        surface = _support(env, sites[target].parent_name, position)
        return Placement(position[:2] + _slot(env, name, target), surface, surface, drop=_DROP)
    raise ExpertError(f"no script for the goal {goal}")


def drawer_of(env: LiberoEnv, region: str) -> str | None:
    """The joint of the drawer that a region is in, if it is.

    Raises:
        ExpertError: it is behind a door.
    """
    site = env.inner.object_sites_dict.get(region)
    if site is None or site.parent_name not in env.fixtures:
        return None
    joints = site.joints or env.inner.get_object(site.parent_name).joints
    if len(joints) != 1:
        return None
    if env.sim.model._model.joint(joints[0]).type[0] != SLIDE:
        raise ExpertError(f"no script for putting something in {region}: the hand does not fit through the door")
    return str(joints[0])


def way_out(env: LiberoEnv, drawer: str) -> np.ndarray:
    """[2] unit vector, world: how a drawer opens."""
    model = env.sim.model._model
    joint = model.joint(drawer)
    low, high = model.jnt_range[joint.id]  # 0 is shut
    return np.asarray(env.sim.data._data.xaxis[joint.id][:2] * (1.0 if high > -low else -1.0))


def _in_drawer(env: LiberoEnv, name: str, region: str, drawer: str) -> Placement:
    """Near the drawer's front, where neither the hand nor the object touches the furniture above."""
    position, out = np.array(env.sim.data.get_site_xpos(region)), way_out(env, drawer)
    here, half = position[:2] @ out, float(np.ptp(boxes(env, name).reshape(-1, 3)[:, :2] @ out)) / 2
    part = part_boxes(env, drawer)
    below = [box for box in part[_covers(part, position[:2])] if box[:, 2].max() < position[2]]
    floor = max(below, key=lambda box: float(box[:, 2].max()))
    rim = float(part[..., 2].max())
    edge = float((floor[:, :2] @ out).max()) - here
    # Furniture above the drawer, like the handles of others, has to be passed on the way down.
    above = boxes(env, env.inner.object_sites_dict[region].parent_name).reshape(-1, 3)
    above = above[above[:, 2] > rim + _PASS]
    passing = float((above[:, :2] @ out).max(initial=-np.inf)) - here + half + _PASS
    centre = position[:2] + max(edge - half - _WALL, passing) * out
    return Placement(centre, float(floor[:, 2].max()), rim, drop=_DROP)


def _support(env: LiberoEnv, parent: str | None, position: np.ndarray) -> float:
    """Height in metres of the furniture's surface that a region at `position` [3] marks."""
    if parent not in env.fixtures:
        return float(position[2])
    corners = boxes(env, parent)
    tops = corners[_covers(corners, position[:2])][..., 2].max(axis=1) - position[2]
    tops = tops[(tops > -_SUPPORT[0]) & (tops < _SUPPORT[1])]
    return float(position[2] + tops.max(initial=0.0))


def _covers(corners: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Which boxes [N, 8, 3] have `point` [2] above or below them; [N]."""
    low, high = corners.min(axis=1)[:, :2], corners.max(axis=1)[:, :2]
    return np.asarray(np.all((low <= point) & (point <= high), axis=1))


def _slot(env: LiberoEnv, name: str, region: str) -> np.ndarray:
    """Offset [2] in metres from a region's middle, so that all objects that the goals want there find room."""
    guests = [goal[1] for goal in env.goals if len(goal) == 3 and goal[2] == region]
    if len(guests) < 2:
        return np.zeros(2)
    sizes = np.array([np.ptp(boxes(env, guest).reshape(-1, 3)[:, :2], axis=0) for guest in guests])
    axis = int(np.argmin(sizes.max(axis=0)))  # side by side in the direction in which they are narrow
    span = min(sizes[:, axis].max() * 1.1, 2 * (env.inner.object_sites_dict[region].size[axis] - _EDGE))
    offset = np.zeros(2)
    offset[axis] = (guests.index(name) / (len(guests) - 1) - 0.5) * span
    return offset


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
