"""Faults that begin in the middle of an episode: of a camera, the light, the scene, the gripper.

They happen where the simulator is, and a watcher has to notice them. What they change of the simulator's model is gone
with the next reset, which makes a new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

SHIFT_METRES, SHIFT_DEGREES = 0.05, 5.0
DIMMED = 0.5  # of the light is left
BLUR_SHARE = 1 / 128  # of a frame's height: standard deviation of the blur
FAR_AWAY = 100.0  # metres to the side, in nobody's view


class Fault:
    """Something that goes wrong; by itself it does nothing.

    Args:
        strength: see the class.
        camera: the simulator's name of the camera that is watched.
        generator: of directions and places.
    """

    name: ClassVar[str]

    def __init__(self, strength: float, camera: str, generator: np.random.Generator) -> None:
        self.strength, self.camera, self.generator = strength, camera, generator

    @contextlib.contextmanager
    def prepared(self, env: Any) -> Iterator[None]:
        """The episode, its reset too, is played inside of this."""
        yield

    def begin(self, env: Any) -> None:
        """Change the scene; called once."""

    def advance(self, env: Any) -> None:
        """Called before every later control step."""

    def frame(self, image: np.ndarray) -> np.ndarray:
        """What becomes of the watched camera's frame: uint8 [H, W, 3]."""
        return image

    def action(self, action: np.ndarray) -> np.ndarray:
        """What becomes of an action [7] from the onset on: motion in [-1, 1], gripper -1 or +1."""
        return action


class CameraShift(Fault):
    """The camera is knocked: moved by 5 cm x strength and turned by 5 degrees x strength, in drawn directions."""

    name = "camera_shift"

    def begin(self, env: Any) -> None:
        """See `Fault`."""
        model = env.sim.model._model
        index = env.sim.model.camera_name2id(self.camera)
        model.cam_pos[index] += SHIFT_METRES * self.strength * _direction(self.generator)
        half = np.radians(SHIFT_DEGREES * self.strength) / 2
        turn = np.array([np.cos(half), *np.sin(half) * _direction(self.generator)])
        model.cam_quat[index] = multiply_quaternions(model.cam_quat[index], turn)


class Blur(Fault):
    """The camera is out of focus: a Gaussian blur of H / 128 pixels x strength on frames of H pixels."""

    name = "blur"

    def frame(self, image: np.ndarray) -> np.ndarray:
        """See `Fault`."""
        return gaussian_blur(image, self.strength * BLUR_SHARE * image.shape[0])


class Light(Fault):
    """The light goes down, to half of it at strength 1, a quarter at 2."""

    name = "light"

    def begin(self, env: Any) -> None:
        """See `Fault`."""
        model, left = env.sim.model._model, DIMMED**self.strength
        for values in (model.light_ambient, model.light_diffuse, model.light_specular):
            values *= left
        lamp = model.vis.headlight
        for values in (lamp.ambient, lamp.diffuse, lamp.specular):
            values *= left


class ObjectRemoved(Fault):
    """The object that the task is about is gone; with strength 2, another one, too, and so on."""

    name = "object_removed"

    def begin(self, env: Any) -> None:
        """See `Fault`."""
        movable = list(env.movable_objects)
        named = [name for goal in env.goals for name in goal[1:] if name in movable]
        others = [str(name) for name in self.generator.permutation([name for name in movable if name not in named])]
        for name in [*dict.fromkeys(named), *others][: max(1, round(self.strength))]:
            joint = env.inner.objects_dict[name].joints[-1]
            pose = np.array(env.sim.data.get_joint_qpos(joint))
            pose[1] += FAR_AWAY
            env.sim.data.set_joint_qpos(joint, pose)
            env.sim.data.set_joint_qvel(joint, np.zeros(6))


class GripperStuck(Fault):
    """The gripper stays as it was told last; with a strength below 1 it does so in that share of the steps."""

    name = "gripper_stuck"

    def __init__(self, strength: float, camera: str, generator: np.random.Generator) -> None:
        super().__init__(strength, camera, generator)
        self._held: float | None = None

    def action(self, action: np.ndarray) -> np.ndarray:
        """See `Fault`."""
        if self._held is None:
            self._held = float(action[-1])
        if self.generator.random() < self.strength:
            action = np.array([*action[:-1], self._held])
        return action


def _direction(generator: np.random.Generator) -> np.ndarray:
    """A unit vector [3], uniform on the sphere."""
    vector = generator.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def multiply_quaternions(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The rotation [4] wxyz that turns by `right` and then by `left`; as a camera's pose: `right` in its own frame."""
    w, x, y, z = left
    matrix = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
    return np.asarray(matrix @ right)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur uint8 [H, W, 3] by a Gaussian of `sigma` pixels, cut off at three of them; edges are continued."""
    reach = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    blurred = image.astype(np.float64)
    for axis in (0, 1):
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        padded = np.pad(blurred, padding, mode="edge")
        size = image.shape[axis]
        blurred = sum(w * padded.take(np.arange(i, i + size), axis=axis) for i, w in enumerate(weights))
    return np.rint(blurred).clip(0, 255).astype(np.uint8)
