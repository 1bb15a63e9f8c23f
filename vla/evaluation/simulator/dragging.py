"""The expert's skill for dishes, whose rims are too low for the fingers: drag them over the table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla.evaluation.simulator.grasping import boxes, fill, fold_yaw
from vla.evaluation.simulator.libero_env import CLOSE, LiberoEnv
from vla.evaluation.simulator.motion import Hand, looking_down

_FLAT = 0.025  # metres: a dish is lower
_INSIDE = 0.45  # share of a dish's radius at which fingers reach into it
_DEPTH = 0.014  # metres above its bottom
_TOW = 0.03  # metres that the hand's target runs ahead
_LOST = 0.03  # metres between hand and dish more than at the start: the fingers have slipped over the rim
_EDGE = 0.012  # metres that the dish's middle keeps from the edge of the region
_DETOURS = np.linspace(-0.08, 0.08, 9)  # metres to the side of the straight way
_ABOVE = 0.08


def is_dish_to_drag(env: LiberoEnv, goal: list[str]) -> bool:
    """Whether a goal only shifts something flat on the table."""
    if goal[0] != "on":
        return False
    site = env.inner.object_sites_dict.get(goal[2])
    return site is not None and site.parent_name is None and float(np.ptp(boxes(env, goal[1])[..., 2])) < _FLAT


def drag(hand: Hand, name: str, region: str) -> Iterator[np.ndarray]:
    """Pull a dish into a region of the table with closed fingers inside its rim, around what stands there."""
    env = hand.env
    way = plan_drag(env, name, region)
    flat = boxes(env, name).reshape(-1, 3)
    low, high = flat.min(axis=0), flat.max(axis=0)
    centre, radius = _centre(env, name), float((high - low)[:2].min()) / 2
    ahead = (way[0] - centre) / max(float(np.linalg.norm(way[0] - centre)), 1e-9)
    inside = np.array([*(centre + _INSIDE * radius * ahead), low[2] + _DEPTH])
    rotation = looking_down(fold_yaw(float(np.arctan2(-ahead[0], ahead[1]))))  # both tips push
    hand.phase = "approach"
    for _ in range(80):
        beside = float(np.linalg.norm(inside[:2] - hand.position()[:2]))
        if beside < 0.008 and hand.position()[2] - inside[2] < 0.006:
            break
        above = np.array([0.0, 0.0, np.clip(8.0 * (beside - 0.006), 0.0, _ABOVE)])
        yield hand.servo(inside + above, rotation, CLOSE, 1.0)
    hand.phase = "drag"
    for point in way:
        for _ in range(100):
            rest, offset = point - _centre(env, name), hand.position()[:2] - _centre(env, name)
            far = float(np.linalg.norm(rest))
            if far < 0.01 or np.linalg.norm(offset) > _INSIDE * radius + _LOST:
                break
            target = hand.position()[:2] + rest * min(1.0, _TOW / far)
            yield hand.servo(np.array([*target, inside[2]]), rotation, CLOSE, 0.5)
    here = hand.position()
    hand.phase = "retreat"
    for _ in range(14):
        yield hand.servo(here + np.array([0.0, 0.0, 0.15]), rotation, CLOSE, 1.0)


def plan_drag(env: LiberoEnv, name: str, region: str) -> list[np.ndarray]:
    """Points [2] in metres, world, that the middle of a dish should pass; the last lies in the region."""
    others = [fill(boxes(env, other)).reshape(-1, 3) for other in env.movable_objects + env.fixtures if other != name]
    flat = boxes(env, name).reshape(-1, 3)
    obstacles = np.concatenate([np.zeros((0, 3)), *others])
    obstacles = obstacles[obstacles[:, 2] < flat[:, 2].max() + 0.02][:, :2]
    start, radius = _centre(env, name), float(np.ptp(flat[:, :2], axis=0).max()) / 2

    def depth(points: np.ndarray) -> float:
        """Metres that the dish would be in the way of something at the worst of points [N, 2]."""
        distance = np.linalg.norm(points[:, None] - obstacles, axis=-1)
        return max(radius - float(distance.min(initial=radius)), 0.0)

    middle = np.array(env.sim.data.get_site_xpos(region)[:2])
    room = np.asarray(env.inner.object_sites_dict[region].size)[:2] - _EDGE
    grid = [middle + room * np.array([x, y]) for x in np.linspace(-1, 1, 5) for y in np.linspace(-1, 1, 5)]
    end = min(grid, key=lambda point: depth(point[None]) + 0.1 * float(np.linalg.norm(point - middle)))
    side = np.array([start[1] - end[1], end[0] - start[0]]) / max(float(np.linalg.norm(end - start)), 1e-9)
    shares = np.linspace(0.0, 1.0, 12)[:, None]

    def cost(via: np.ndarray) -> float:
        legs = np.concatenate([start + shares * (via - start), via + shares * (end - via)])
        length = float(np.linalg.norm(via - start) + np.linalg.norm(end - via))
        return length + depth(legs)

    return [min(((start + end) / 2 + detour * side for detour in _DETOURS), key=cost), end]


def _centre(env: LiberoEnv, name: str) -> np.ndarray:
    """[2] metres, world."""
    return np.array(env.sim.data.body_xpos[env.inner.obj_body_id[name]][:2])
