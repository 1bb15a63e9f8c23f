"""Leaving out of a frame what its camera cannot see, without changing a pixel: MuJoCo sends every mesh to OpenGL.

A software renderer pays for the vertices of what is out of sight, too, and LIBERO's scans and robot have many. A mesh
whose bounding box lies outside the camera's view leaves no fragment. Where the model has a mirror (the stove's plate),
MuJoCo draws the whole scene a second time, even if the mirror is out of sight; while it is in sight, what it may show
is drawn, too.

Other shapes than meshes are never left out: they are cheap, and they decide things for the whole picture (the first
reflective box is the only mirror, an infinite plane makes the haze).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
# The one side of a box that MuJoCo makes a mirror, +z, once around.
_FACE = np.array([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
# Metres, and metres per metre of distance: far above float32 and the rasterizer's grid of 1/256 pixel, and at 128
# pixels still a fraction of one.
_MARGIN = 1e-3
_HIDDEN_GROUP = 5  # the last of MuJoCo's groups of geoms
_OPAQUE = 0.995  # MuJoCo's own limit


@dataclass(frozen=True)
class View:
    """What a camera sees: a truncated pyramid.

    Attributes:
        position: [3] metres, world frame.
        axes: [3, 3] rows right, up, forward.
        slopes: [2] half width and half height at distance 1.
        near: metres along forward.
        far: metres along forward.
    """

    position: np.ndarray
    axes: np.ndarray
    slopes: np.ndarray
    near: float
    far: float

    def misses(self, points: np.ndarray) -> np.ndarray:
        """[N] bool: the convex hull of points [N, K, 3] lies wholly beyond one of the six sides, by a margin."""
        local = (points - self.position) @ self.axes.T
        depth = local[..., 2]
        margin = _MARGIN * (1.0 + np.abs(depth).max(axis=1, keepdims=True))
        outside = (depth < self.near - margin).all(axis=1) | (depth > self.far + margin).all(axis=1)
        for axis in (0, 1):
            reach = self.slopes[axis] * depth + margin
            outside |= (local[..., axis] > reach).all(axis=1) | (-local[..., axis] > reach).all(axis=1)
        return np.asarray(outside)


@dataclass(frozen=True)
class Mirror:
    """A flat mirror.

    Attributes:
        outline: [4, 3] its corners once around, metres, world frame.
        normal: [3] towards the side that is mirrored.
    """

    outline: np.ndarray
    normal: np.ndarray

    def misses(self, points: np.ndarray, view: View) -> np.ndarray:
        """[N] bool: the convex hull of points [N, K, 3] lies wholly behind the mirror, or its image is not in it."""
        height = (points - self.outline[0]) @ self.normal
        image = points - 2 * height[..., None] * self.normal
        unseen = (height < -_MARGIN).all(axis=1) | view.misses(image)
        rays, local = self.outline - view.position, image - view.position
        margin = _MARGIN * (1.0 + np.abs(local).max(axis=(1, 2))[:, None])
        for start, end in zip(rays, np.roll(rays, -1, axis=0), strict=True):
            side = np.cross(start, end)
            length = np.linalg.norm(side)
            if length < _MARGIN**2:  # looking along this edge
                continue
            side *= np.sign(side @ rays.mean(axis=0)) / length  # to the inside
            unseen |= (local @ side < -margin).all(axis=1)
        return np.asarray(unseen)


def camera_view(scene: Any) -> View | None:
    """The view of a scene's camera for square pictures; None if it isn't an ordinary perspective one."""
    left, right = scene.camera[0], scene.camera[1]
    if scene.stereo or scene.enabletransform or left.orthographic or left.frustum_near <= 0:
        return None
    position = (np.array(left.pos, np.float64) + np.array(right.pos, np.float64)) / 2  # two eyes, looking in parallel
    forward, up = np.array(left.forward, np.float64), np.array(left.up, np.float64)
    half_height = (left.frustum_top - left.frustum_bottom) / 2
    half_width = left.frustum_width or half_height
    if left.frustum_center != 0 or not np.isclose(left.frustum_top, -left.frustum_bottom):
        return None
    slopes = np.array([half_width, half_height]) / left.frustum_near
    axes = np.stack([np.cross(forward, up), up, forward])
    return View(position, axes, slopes, left.frustum_near, left.frustum_far)


class Culler:
    """Decides for one model which meshes to leave out of a frame, and whether its mirror is needed.

    Args:
        model: mujoco.MjModel; its visibility and materials must not change later.
        options: mujoco.MjvOption of the rendering; likewise.
    """

    def __init__(self, model: Any, options: Any) -> None:
        import mujoco

        types = mujoco.mjtGeom
        self._mujoco, self.model = mujoco, model
        groups = np.clip(model.geom_group, 0, _HIDDEN_GROUP)  # as MuJoCo takes groups out of range
        alpha = _alpha(model)
        drawn = np.array(options.geomgroup, dtype=bool)[groups] & (alpha > 0)
        reflects = drawn & (alpha >= _OPAQUE) & (_reflectance(model, model.geom_matid) > 0)
        self._boxes = np.flatnonzero(reflects & (model.geom_type == types.mjGEOM_BOX))  # in the order of the scene
        # A plane is the mirror or isn't by the side that it is seen from, and sites come after all geoms: LIBERO has
        # neither, and a model that has is drawn as a whole.
        odd = (reflects & (model.geom_type == types.mjGEOM_PLANE)).any() or _reflectance(model, model.site_matid).any()
        see_through = options.flags[mujoco.mjtVisFlag.mjVIS_TRANSPARENT]
        self.enabled = not (odd or see_through or options.geomgroup[_HIDDEN_GROUP])
        self._meshes = np.flatnonzero(drawn & (model.geom_type == types.mjGEOM_MESH))
        boxes = model.geom_aabb[self._meshes]
        self._corners = boxes[:, None, :3] + _CORNERS * boxes[:, None, 3:]

    def decide(self, data: Any, view: View) -> tuple[np.ndarray, bool]:
        """Return the indices of the meshes to leave out, and whether the scene must be mirrored.

        Args:
            data: mujoco.MjData, forwarded.
            view: of the camera.
        """
        unseen = self.unseen(data, view)
        mirror = self._mirror(data, view)
        if mirror is not None:
            unseen &= mirror.misses(_to_world(data, self._meshes, self._corners), view)
        return self._meshes[unseen], mirror is not None

    def unseen(self, data: Any, view: View) -> np.ndarray:
        """[number of visible meshes] bool: a mesh that the camera cannot see directly."""
        return view.misses(_to_world(data, self._meshes, self._corners))

    def _mirror(self, data: Any, view: View) -> Mirror | None:
        """The scene's mirror if it may show in the picture; MuJoCo has one at most, the first box that reflects."""
        if not len(self._boxes):
            return None
        first = self._boxes[:1]
        outline = _to_world(data, first, _FACE * self.model.geom_size[first])[0]
        mirror = Mirror(outline, data.geom_xmat[first[0]].reshape(3, 3)[:, 2])
        behind = (view.position - outline[0]) @ mirror.normal < -_MARGIN
        return None if behind or view.misses(outline[None])[0] else mirror

    @contextlib.contextmanager
    def applied(self, context: Any, data: Any, camera: int) -> Iterator[None]:
        """Render inside of this: what the camera cannot see is left out, and is back afterwards.

        Args:
            context: robosuite's MjRenderContext.
            data: mujoco.MjData, forwarded.
            camera: index of a fixed camera.
        """
        view = self.view(context, data, camera) if self.enabled else None
        if view is None:
            yield
            return
        hidden, mirrored = self.decide(data, view)
        flag = self._mujoco.mjtRndFlag.mjRND_REFLECTION
        groups, reflection = self.model.geom_group[hidden], context.scn.flags[flag]
        self.model.geom_group[hidden] = _HIDDEN_GROUP
        context.scn.flags[flag] = reflection and mirrored
        try:
            yield
        finally:
            self.model.geom_group[hidden] = groups
            context.scn.flags[flag] = reflection

    def view(self, context: Any, data: Any, camera: int) -> View | None:
        """What a fixed camera sees at this moment; None if it isn't an ordinary one."""
        fixed = self._mujoco.MjvCamera()
        fixed.type, fixed.fixedcamid = self._mujoco.mjtCamera.mjCAMERA_FIXED, camera
        self._mujoco.mjv_updateCamera(self.model, data, fixed, context.scn)
        return camera_view(context.scn)


def _alpha(model: Any) -> np.ndarray:
    """[ngeom] opacity in [0, 1] as MuJoCo chooses it: the geom's colour unless that is the default grey."""
    default = (model.geom_rgba == np.array([0.5, 0.5, 0.5, 1.0], np.float32)).all(axis=1)
    of_material = np.append(model.mat_rgba[:, 3], np.float32(1.0))[model.geom_matid]
    return np.where(default & (model.geom_matid >= 0), of_material, model.geom_rgba[:, 3])


def _reflectance(model: Any, materials: np.ndarray) -> np.ndarray:
    """[N] of material indices [N]; 0 where there is none (-1)."""
    return np.append(model.mat_reflectance, np.float32(0.0))[materials]


def _to_world(data: Any, geoms: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [N, K, 3] of the frames of geoms [N] in the world's frame."""
    rotations = data.geom_xmat[geoms].reshape(-1, 3, 3)
    return points @ rotations.transpose(0, 2, 1) + data.geom_xpos[geoms][:, None]
