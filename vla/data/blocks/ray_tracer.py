"""A small ray tracer: blocks on a table under one light, with shadows. All rays at once, in NumPy.

Axes: x to the right, y away from the camera, z up. Rays are [N, 3]; distances along them [N], infinite where nothing is
hit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.blocks.scene import COLORS, Block, Scene

Array = NDArray[np.float64]

CAMERA = np.array([0.0, -7.2, 5.2])
TARGET = np.array([0.0, -0.15, 0.2])
FIELD_OF_VIEW = 0.86  # width of the picture at distance 1
SKY = np.array([0.74, 0.79, 0.86])
AMBIENT, DIFFUSE, SPECULAR, SHININESS = 0.42, 0.68, 0.35, 28.0
_TINY = 1e-4  # a shadow ray starts this far above the surface


@dataclass(frozen=True)
class Rendering:
    """A picture and what it shows."""

    image: NDArray[np.uint8]  # [size, size, 3]
    visible: NDArray[np.float64]  # [number of blocks], share of each block's pixels that nothing hides
    column: NDArray[np.float64]  # [number of blocks], horizontal position of the centre, 0 left to 1 right


def render(scene: Scene, size: int, samples: int = 2) -> Rendering:
    """The picture of a scene.

    Args:
        size: pixels, square.
        samples: rays per pixel and axis, which are averaged.
    """
    side = size * samples
    origin, rays = _camera_rays(side)
    distances = np.stack([_hit(block, origin, rays) for block in scene.blocks])
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], np.inf)
    nearest = distances.argmin(axis=0)
    distance = distances.min(axis=0)
    is_block = distance < ground
    distance = np.minimum(distance, ground)
    colors = np.broadcast_to(SKY, rays.shape).copy()
    seen = np.isfinite(distance)
    points = origin + rays[seen] * distance[seen, None]
    owner = np.where(is_block, nearest, -1)[seen]
    colors[seen] = _shade(scene, points, -rays[seen], owner)
    pixels = colors.reshape(size, samples, size, samples, 3).mean(axis=(1, 3))
    image = (np.clip(pixels, 0.0, 1.0) ** (1 / 1.6) * 255 + 0.5).astype(np.uint8)
    shown = np.bincount(nearest[is_block], minlength=len(scene.blocks))
    whole = np.isfinite(distances).sum(axis=1)
    return Rendering(image, shown / np.maximum(whole, 1), np.array([_column(block) for block in scene.blocks]))


def _camera_axes() -> tuple[Array, Array, Array]:
    forward = (TARGET - CAMERA) / np.linalg.norm(TARGET - CAMERA)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return forward, right, np.cross(right, forward)


def _camera_rays(side: int) -> tuple[Array, Array]:
    forward, right, up = _camera_axes()
    places = ((np.arange(side) + 0.5) / side - 0.5) * FIELD_OF_VIEW
    rays = forward + places[None, :, None] * right - places[:, None, None] * up
    rays = rays.reshape(-1, 3)
    return CAMERA, rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _column(block: Block) -> float:
    """Where the block's centre is in the picture, from 0 (left) to 1 (right)."""
    forward, right, _ = _camera_axes()
    offset = np.array([block.x, block.y, block.radius]) - CAMERA
    return float(offset @ right / (offset @ forward) / FIELD_OF_VIEW + 0.5)


def _hit(block: Block, origin: Array, rays: Array) -> Array:
    """Distance to the first point of a block; `origin` is [3] or [N, 3]."""
    distances = np.full(len(rays), np.inf)
    center = np.array([block.x, block.y, block.radius]) - origin
    along = (rays * center).sum(-1)
    gap = (center * center).sum(-1) - along * along  # squared, between the ray's line and the block's centre
    close = (gap < 3.0 * block.radius**2) & (along > 0.0)  # most rays are far from most blocks
    start = origin[close] if origin.ndim == 2 else origin
    distances[close] = _hit_closely(block, start, rays[close])
    return distances


def _hit_closely(block: Block, origin: Array, rays: Array) -> Array:
    start, way = _to_block(block, origin, rays)
    with np.errstate(divide="ignore", invalid="ignore"):
        if block.shape == "ball":
            near, far = _quadratic((way * way).sum(-1), (start * way).sum(-1), (start * start).sum(-1) - 1.0)
        else:
            near, far = _slab(start[..., 2], way[..., 2])
            if block.shape == "cube":
                sides = [_slab(start[..., axis], way[..., axis]) for axis in (0, 1)]
            else:
                sides = [_mantle(start, way)]
            for low, high in sides:
                near, far = np.maximum(near, low), np.minimum(far, high)
    return np.where((near <= far) & (near > _TINY), near, np.inf)


def _to_block(block: Block, origin: Array, rays: Array) -> tuple[Array, Array]:
    """Points and directions in the block's own axes, in which it reaches from -1 to 1; directions are scaled too."""
    cos, sin = np.cos(block.angle), np.sin(block.angle)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    center = np.array([block.x, block.y, block.radius])
    return np.atleast_2d(origin - center) @ turn / block.radius, rays @ turn / block.radius


def _slab(start: Array, way: Array) -> tuple[Array, Array]:
    """Where rays are between -1 and 1 of one axis."""
    one, other = (-1.0 - start) / way, (1.0 - start) / way
    return np.minimum(one, other), np.maximum(one, other)


def _mantle(start: Array, way: Array) -> tuple[Array, Array]:
    """Where rays are inside of the endless upright cylinder."""
    flat, ways = start[..., :2], way[..., :2]
    return _quadratic((ways * ways).sum(-1), (flat * ways).sum(-1), (flat * flat).sum(-1) - 1.0)


def _quadratic(a: Array, half_b: Array, c: Array) -> tuple[Array, Array]:
    root = np.sqrt(half_b * half_b - a * c)  # NaN where there is no solution, which no comparison holds for
    return (-half_b - root) / a, (-half_b + root) / a


def _normals(block: Block, points: Array) -> Array:
    local, _ = _to_block(block, points, points)
    if block.shape == "ball":
        normal = local
    elif block.shape == "cube":
        normal = np.where(np.abs(local) >= np.abs(local).max(axis=1, keepdims=True), np.sign(local), 0.0)
    else:
        on_top = np.abs(local[:, 2:]) > 1.0 - 1e-6
        normal = np.where(on_top, [0.0, 0.0, 1.0], local * [1.0, 1.0, 0.0])
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    cos, sin = np.cos(block.angle), np.sin(block.angle)
    turned: Array = normal @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return turned


def _shade(scene: Scene, points: Array, to_camera: Array, owner: NDArray[np.int64]) -> Array:
    """Colour [N, 3] of surface points; `owner` is the block's number, or -1 for the table."""
    light = np.array(scene.light)
    normals = np.broadcast_to([0.0, 0.0, 1.0], points.shape).copy()
    base = np.broadcast_to(np.array(scene.table), points.shape).copy()
    gloss = np.zeros(len(points))
    for number, block in enumerate(scene.blocks):
        mine = owner == number
        normals[mine] = _normals(block, points[mine])
        base[mine] = COLORS[block.color]
        gloss[mine] = SPECULAR
    toward = np.broadcast_to(light, points.shape)
    lit = np.ones(len(points))
    for block in scene.blocks:
        lit[np.isfinite(_hit(block, points + normals * 1e-3, toward))] = 0.25  # a shadow is not quite dark
    facing = np.clip(normals @ light, 0.0, None)
    halfway = to_camera + light
    halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
    shine = gloss * np.clip((normals * halfway).sum(1), 0.0, None) ** SHININESS * (lit > 0.5)
    return base * (AMBIENT + DIFFUSE * facing * lit)[:, None] + shine[:, None]
