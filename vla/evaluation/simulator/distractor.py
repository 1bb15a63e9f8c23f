"""A fault that needs a body of its own: something falls onto the table that doesn't belong there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from vla.evaluation.simulator.faults import Fault

BODY = "vla_distractor"
HALF_SIDE = 0.025  # metres, at strength 1
DROP = 0.25  # metres above where it comes to rest
GRAVITY, CONTROL_SECONDS = 9.81, 0.05
MARGIN = 0.05  # metres around the objects' places
CLEARANCE, HAND_CLEARANCE = 0.02, 0.12  # metres to the nearest object and to the hand
LOOK_DOWN, LOOK_BELOW = 0.4, 0.1  # metres above and below the lowest object: where the table is looked for
FLAT = 0.01  # metres: how even a free place is
TRIES = 64


class Distractor(Fault):
    """A bright cube, 5 cm x strength wide, drops onto a free place between the objects, and can't be pushed away.

    The camera sees the place. The cube is moved by the evaluation and not by forces (a mocap body), so that it adds
    nothing to the simulator's state, and official initial states stay what they are. Until then it is there, invisible
    and without contacts.
    """

    name = "distractor"

    def __init__(self, strength: float, camera: str, generator: np.random.Generator) -> None:
        super().__init__(strength, camera, generator)
        self._colour = generator.dirichlet(np.full(3, 0.4))
        self._place = np.zeros(3)
        self._mocap, self._seconds = 0, 0.0

    @contextlib.contextmanager
    def prepared(self, env: Any) -> Iterator[None]:
        """See `Fault`."""
        env.inner.set_xml_processor(self.with_body)
        try:
            yield
        finally:
            env.inner.set_xml_processor(None)

    def with_body(self, xml: str) -> str:
        """The simulator's model with the body as its last one, so that no other changes its number."""
        colour = " ".join(f"{value:.3f}" for value in self._colour)
        size = " ".join([f"{HALF_SIDE * self.strength:.4f}"] * 3)
        body = (
            f'<body name="{BODY}" mocap="true" pos="0 0 0"><geom name="{BODY}" type="box" size="{size}" group="1" '
            f'rgba="{colour} 0" contype="0" conaffinity="0"/></body>'
        )
        before, end, after = xml.rpartition("</worldbody>")
        return before + body + end + after

    def begin(self, env: Any) -> None:
        """See `Fault`."""
        model, data = env.sim.model._model, env.sim.data._data
        self._mocap = int(model.body(BODY).mocapid[0])
        self._place = self._choose(env)
        angle = self.generator.uniform(0.0, np.pi / 2)
        data.mocap_quat[self._mocap] = [np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)]
        data.mocap_pos[self._mocap] = self._place + [0.0, 0.0, DROP]
        index = model.geom(BODY).id
        model.geom_rgba[index, 3] = 1.0
        model.geom_contype[index] = model.geom_conaffinity[index] = 1
        self._seconds = 0.0

    def advance(self, env: Any) -> None:
        """See `Fault`."""
        self._seconds += CONTROL_SECONDS
        height = max(0.0, DROP - GRAVITY * self._seconds**2 / 2)
        env.sim.data._data.mocap_pos[self._mocap] = self._place + [0.0, 0.0, height]

    def _choose(self, env: Any) -> np.ndarray:
        """[3] metres: where it comes to rest: the first free place on the table, or where all is full, any place."""
        data, half = env.sim.data._data, HALF_SIDE * self.strength
        objects = np.stack([data.xpos[env.inner.obj_body_id[name]] for name in env.movable_objects])
        hand = np.array(env.sim.data.get_site_xpos("gripper0_grip_site"))[:2]
        low, high = objects[:, :2].min(axis=0) - MARGIN, objects[:, :2].max(axis=0) + MARGIN
        places = self.generator.uniform(low, high, size=(TRIES, 2))
        tops = np.array([self._top(env, place, objects[:, 2].min() + LOOK_DOWN) for place in places])
        away = np.linalg.norm(places - hand, axis=1) > HAND_CLEARANCE + half
        seen = np.array([self._in_sight(env, [*place, top + half]) for place, top in zip(places, tops, strict=True)])
        beside = tops < objects[:, 2].min() - LOOK_BELOW  # the table's edge
        level = np.where(beside, np.inf, tops).min()
        free = np.flatnonzero((tops < level + FLAT) & ~beside & away & seen)
        chosen = free[0] if len(free) else int(np.where(beside, np.inf, tops).argmin())
        return np.array([*places[chosen], tops[chosen] + half])

    def _top(self, env: Any, place: np.ndarray, height: float) -> float:
        """The highest of what is below the cube at a place [2], and CLEARANCE around it, seen from `height`; metres."""
        reach = HALF_SIDE * self.strength + CLEARANCE
        tops = []
        for offset in np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2) * reach:
            distance = _ray(env, np.array([*place + offset, height]), np.array([0.0, 0.0, -1.0]))
            tops.append(height - distance)
        return max(tops)

    def _in_sight(self, env: Any, centre: list[float]) -> bool:
        """Whether nothing is between the camera and the cube's centre [3]."""
        camera = np.array(env.sim.data._data.cam_xpos[env.sim.model.camera_name2id(self.camera)])
        way = np.array(centre) - camera
        length = float(np.linalg.norm(way))
        return _ray(env, camera, way / length) > length


def _ray(env: Any, start: np.ndarray, direction: np.ndarray) -> float:
    """Metres from `start` [3] to the first thing in a direction [3], the cube left out; infinite if there is none."""
    import mujoco

    model, hit = env.sim.model._model, np.zeros(1, dtype=np.int32)
    distance = mujoco.mj_ray(model, env.sim.data._data, start, direction, None, 1, model.body(BODY).id, hit)
    return float(distance) if distance >= 0 else np.inf
