"""Where to grasp an object, from its collision boxes: across its body from the top, or by its rim."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.motion import looking_down, rotation_about

MAX_JAW_WIDTH = 0.072  # metres: the open fingers leave 77 mm, minus clearance for the approach
RIM_DEPTH = 0.012  # metres below the top at which a rim is held
RIM_INSET = 0.004  # metres from the outermost points to the middle of the wall
RIM_ROOM = 0.02  # metres from a neighbour that are enough for the outer finger
TOP_DEPTH = 0.035  # metres below the top at which a body is held, at most half its height
KNOB_DEPTH = 0.008  # metres below the top at which a lid's knob is held
FINGER_FLOOR = 0.010  # metres the grip site stays above the object's bottom
# Half sizes in metres of the open hand and of its fingers, along and across the jaws, and from which height relative
# to the grip site they begin.
_HAND, HAND_BASE = np.array([0.108, 0.036]), 0.033
_FINGERS, _FINGER_BASE = np.array([0.062, 0.013]), -0.012
_PARTS = ((_HAND, HAND_BASE), (_FINGERS, _FINGER_BASE))
# Where a leaning hand holds a rim: radians from the way that it leans.
_LEANING_ANGLES = tuple(np.radians([90.0, -90.0, 60.0, -60.0, 45.0, -45.0]))
_STRIP = 0.02  # metres to each side of that place
_SLAB = 0.008  # half height in metres of the layer that the fingers touch
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
_EDGES = np.array([(i, j) for i in range(8) for j in range(i + 1, 8)])


@dataclass(frozen=True)
class Grasp:
    """A pose of the grip site.

    Attributes:
        position: [3] metres, world.
        yaw: radians about the world's z; 0 closes the jaws along the world's y axis.
        top: height in metres of the object's highest point.
        kind: "top" or "rim".
        tilt: radians by which the hand leans about its jaws' axis instead of looking straight down.
    """

    position: np.ndarray
    yaw: float
    top: float
    kind: str
    tilt: float = 0.0

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3]: of the grip site."""
        upright = looking_down(self.yaw)
        return rotation_about(upright[:, 0], self.tilt) @ upright if self.tilt else upright

    @property
    def ascent(self) -> np.ndarray:
        """[3]: where the hand comes from, per metre of height."""
        fingers = self.rotation[:, 2]
        return np.asarray(fingers / fingers[2])

    @property
    def hand_base(self) -> float:
        """Metres from the grip site up to the hand's lowest edge."""
        return HAND_BASE * float(np.cos(self.tilt)) - _HAND[1] * abs(float(np.sin(self.tilt)))


def boxes(env: LiberoEnv, name: str) -> np.ndarray:
    """Return the corners [N, 8, 3] in metres, world, of the collision boxes of an object or fixture.

    LIBERO builds collision shapes from boxes; another shape is replaced by its local bounding box.

    Raises:
        ValueError: the object has no collision shape.
    """
    geoms = env.collision_geoms(name)
    if not len(geoms):  # a microwave's shapes only collide with those that list them
        model = env.sim.model._model
        root = env.inner.obj_body_id[name]
        geoms = np.flatnonzero((model.body_rootid[model.geom_bodyid] == root) & (model.geom_conaffinity != 0))
    if not len(geoms):
        raise ValueError(f"{name} has no collision shape")
    return _geom_boxes(env, geoms)


def part_boxes(env: LiberoEnv, joint: str) -> np.ndarray:
    """Return the corners [N, 8, 3] in metres, world, of the collision boxes of the part that a joint moves."""
    model = env.sim.model._model
    body = model.jnt_bodyid[model.joint(joint).id]
    return _geom_boxes(
        env, np.flatnonzero((model.geom_bodyid == body) & ((model.geom_contype | model.geom_conaffinity) != 0))
    )


def _geom_boxes(env: LiberoEnv, geoms: np.ndarray) -> np.ndarray:
    model, data = env.sim.model._model, env.sim.data._data
    centre, half = model.geom_aabb[geoms][:, None, :3], model.geom_aabb[geoms][:, None, 3:]
    local = centre + _CORNERS * half
    rotation = data.geom_xmat[geoms].reshape(-1, 3, 3)
    return np.einsum("nij,nkj->nki", rotation, local) + data.geom_xpos[geoms][:, None, :]


def cross_section(corners: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return points [M, 2] whose hull is that of the boxes [N, 8, 3] between two heights, seen from above."""
    inside = corners[(corners[..., 2] >= low) & (corners[..., 2] <= high)]
    points = [inside[:, :2]]
    # Every pair of corners, not only edges: inner diagonals add points inside the hull, which changes nothing.
    start, end = corners[:, _EDGES[:, 0]].reshape(-1, 3), corners[:, _EDGES[:, 1]].reshape(-1, 3)
    rise = end[:, 2] - start[:, 2]
    for height in (low, high):
        crossing = (start[:, 2] - height) * (end[:, 2] - height) < 0
        share = (height - start[crossing, 2]) / rise[crossing]
        points.append(start[crossing, :2] + share[:, None] * (end[crossing] - start[crossing])[:, :2])
    return np.concatenate(points)


def fold_yaw(angle: float) -> float:
    """Return the equivalent yaw in [-pi/2, pi/2) of a symmetric gripper."""
    return float((angle + np.pi / 2) % np.pi - np.pi / 2)


def _extents(points: np.ndarray, yaws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest coordinate, each [K], of points [M, 2] along the jaw axis of each yaw."""
    along = points @ np.stack([-np.sin(yaws), np.cos(yaws)])  # yaw 0 closes along +y
    return along.min(axis=0), along.max(axis=0)


def plan_grasp(env: LiberoEnv, name: str, rim_angle: float | None = None, lower: float = 0.0) -> Grasp:
    """Plan a grasp of an object as it lies now.

    Args:
        env: the task.
        name: a movable object.
        rim_angle: for wide objects, where on the rim: radians from the world's x axis; None chooses.
        lower: metres deeper than usual, for another try after a slip.
    """
    corners, around = boxes(env, name), surroundings(env, name)
    bottom, top = float(corners[..., 2].min()), float(corners[..., 2].max())
    height = max(top - min((top - bottom) / 2, TOP_DEPTH) - lower, bottom + FINGER_FLOOR - min(lower, 0.005))
    grasp = plan_across(corners, around, height)
    if grasp is None:  # too wide there; a lid has a knob, though
        grasp = plan_across(corners, around, top - KNOB_DEPTH)
    return grasp or _plan_rim(env, name, corners, rim_angle)


def plan_across(corners: np.ndarray, around: np.ndarray, height: float) -> Grasp | None:
    """Plan a grasp from above across boxes [N, 8, 3] at a height in metres; None where they are too wide.

    Args:
        corners: what is grasped.
        around: [M, 3] points that the hand should not touch.
        height: of the grip site.
    """
    points = cross_section(corners, height - _SLAB, height + _SLAB)
    yaws = np.radians(np.arange(-90.0, 90.0, 3.0))
    low, high = _extents(points, yaws)
    widths = high - low
    side_low, side_high = _extents(points, yaws + np.pi / 2)
    best: tuple[float, Grasp] | None = None
    for k in np.flatnonzero(widths <= MAX_JAW_WIDTH):
        jaw_axis, side_axis = _axes(yaws[k])
        for shift in (0.0, -0.3, 0.3):  # off the middle, where a neighbour leaves no room for the hand
            side = (side_low[k] + side_high[k]) / 2 + shift * (side_high[k] - side_low[k])
            position = np.array([*((low[k] + high[k]) / 2 * jaw_axis + side * side_axis), height])
            # A turn of the hand costs time, so a slightly wider grip with less turning is the better one.
            cost = widths[k] + 0.006 * abs(yaws[k]) + 0.03 * abs(shift) + blockage(around, position, yaws[k])
            if best is None or cost < best[0]:
                best = (float(cost), Grasp(position, float(yaws[k]), float(corners[..., 2].max()), "top"))
    return None if best is None else best[1]


def _plan_rim(env: LiberoEnv, name: str, corners: np.ndarray, rim_angle: float | None) -> Grasp:
    top = float(corners[..., 2].max())
    height = top - RIM_DEPTH
    points = cross_section(corners, height - _SLAB, top)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    angles = np.radians(np.arange(0.0, 360.0, 10.0)) if rim_angle is None else np.array([rim_angle])
    around = surroundings(env, name)
    beside = around[around[:, 2] > height - 0.02]
    best: tuple[float, Grasp] | None = None
    for angle in angles:
        outward = np.array([np.cos(angle), np.sin(angle)])
        radius = float(np.percentile((points - centre) @ outward, 98)) - RIM_INSET
        position = centre + radius * outward
        yaw = fold_yaw(angle - np.pi / 2)
        clearance = float(np.linalg.norm(beside[:, :2] - position, axis=1).min(initial=RIM_ROOM))
        # Room for the outer finger, little turning, and the near side, since the arm's reach is the limit. More room
        # than enough is worth nothing, and of equals the left one is taken: like scenes are to give like grasps, or
        # nobody could learn from the demonstrations where to go.
        grasp = Grasp(np.array([*position, height]), yaw, top, "rim")
        score = clearance - 0.05 * abs(yaw) - 0.8 * (position[0] - centre[0]) + 0.1 * (position[1] - centre[1])
        score -= blockage(around, grasp.position, yaw)
        if best is None or score > best[0]:
            best = (score, grasp)
    assert best is not None
    return best[1]


def plan_leaning(
    env: LiberoEnv, name: str, out: np.ndarray, tilt: float, shift: np.ndarray, rim_angle: float | None = None
) -> Grasp:
    """Plan to hold the rim of something that goes into furniture, the hand leaning back out of it.

    Args:
        env: the task.
        name: a movable object.
        out: [2] unit vector that leads out of the furniture.
        tilt: radians from looking down.
        shift: [3] metres: how far it will be moved; the hand should be free there, too.
        rim_angle: prefers the place nearest to that; None prefers a free one, then the robot's side.
    """
    corners, around = boxes(env, name), surroundings(env, name)
    held = fill(corners).reshape(-1, 3)
    top = float(corners[..., 2].max())
    points = cross_section(corners, top - RIM_DEPTH - _SLAB, top)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    best: tuple[float, Grasp] | None = None
    for angle in _LEANING_ANGLES:
        outward = rotation_about(np.array([0.0, 0.0, 1.0]), angle)[:2, :2] @ out
        across = np.array([-outward[1], outward[0]])
        # The wall's middle in a strip across it: a mug's handle may be farther out than its wall.
        reach = ((points - centre) @ outward)[np.abs((points - centre) @ across) < _STRIP]
        position = np.array([*(centre + (reach.max(initial=0.0) - RIM_INSET) * outward), top - RIM_DEPTH])
        # The way round in which the wrist's last joint has room to lean.
        jaws = outward if outward @ np.array([-out[1], out[0]]) > 0.0 else -outward
        grasp = Grasp(position, float(np.arctan2(-jaws[0], jaws[1])), top, "rim", tilt)
        blocked = sum(_blockage_leaning(points, held, grasp) for points in (around, around - shift))
        cost = 10.0 * blocked + position[0] - centre[0]
        if rim_angle is not None:
            cost = -float(np.cos(rim_angle) * outward[0] + np.sin(rim_angle) * outward[1])
        if best is None or cost < best[0]:
            best = (float(cost), grasp)
    assert best is not None
    return best[1]


def surroundings(env: LiberoEnv, name: str) -> np.ndarray:
    """Points [M, 3] in and on the collision boxes of everything but `name`."""
    others = [boxes(env, other) for other in env.movable_objects + env.fixtures if other != name]
    if not others:
        return np.zeros((0, 3))
    return fill(np.concatenate(others)).reshape(-1, 3)


def fill(corners: np.ndarray) -> np.ndarray:
    """Return points [N, 216, 3] on a grid in and on the boxes [N, 8, 3]."""
    steps = np.linspace(0.0, 1.0, 6)
    x, y, z = (axis.reshape(-1, 1) for axis in np.meshgrid(steps, steps, steps))
    # Trilinear weights in the order of _CORNERS.
    shares = [
        [axis if side > 0 else 1 - axis for axis, side in zip((x, y, z), corner, strict=True)] for corner in _CORNERS
    ]
    weights = np.concatenate([sx * sy * sz for sx, sy, sz in shares], axis=1)
    return np.asarray(np.einsum("gc,ncd->ngd", weights, corners))


def blockage(points: np.ndarray, position: np.ndarray, yaw: float) -> float:
    """Return how badly obstacle points [M, 3] are in the way of the open gripper at a grasp: 0 for free, up to 2."""
    jaw_axis, side_axis = _axes(yaw)
    offsets = points - position
    along, across = np.abs(offsets[:, :2] @ jaw_axis), np.abs(offsets[:, :2] @ side_axis)
    return sum(_depth_cost(along, across, offsets[:, 2], *part) for part in _PARTS)


def _blockage_leaning(around: np.ndarray, held: np.ndarray, grasp: Grasp) -> float:
    """The same for a hand that leans, whose knuckles may also touch what it holds, [M, 3] points."""
    total = 0.0
    for points, part in ((np.concatenate([around, held]), _PARTS[0]), (around, _PARTS[1])):
        local = (points - grasp.position) @ grasp.rotation
        total += _depth_cost(np.abs(local[:, 0]), np.abs(local[:, 1]), -local[:, 2], *part)
    return total


def _depth_cost(along: np.ndarray, across: np.ndarray, back: np.ndarray, half: np.ndarray, base: float) -> float:
    """From 0 to 1 for how deep the deepest point lies in a part of the hand; coordinates [M] in the hand's frame."""
    depth = np.minimum(half[0] - along, half[1] - across)[back > base]
    deepest = float(depth.max(initial=0.0))
    return min(0.5 + 10.0 * deepest, 1.0) if deepest > 0.0 else 0.0


def _axes(yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [2] along the jaws and across them."""
    return np.array([-np.sin(yaw), np.cos(yaw)]), np.array([-np.cos(yaw), -np.sin(yaw)])
