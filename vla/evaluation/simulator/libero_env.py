"""One LIBERO task as an environment whose episodes replay bit for bit and which renders only when asked to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla.conf.libero import WAIT_STEPS
from vla.evaluation.simulator.culling import Culler
from vla.evaluation.simulator.guards import SimulatorHangError, no_debugger, numpy_seed, time_limit
from vla.evaluation.simulator.runtime import LiberoTask, check_versions, load_libero, quiet

CAMERAS = ("agentview", "robot0_eye_in_hand")
ACTION_DIM = 7
OPEN, CLOSE = -1.0, 1.0
IDLE_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, OPEN])
ARM_NOISE = 0.02  # standard deviation in radians of the start joints, as in the official initial states
_PLACEMENT_TRIES = 20


@dataclass(frozen=True)
class Observation:
    """What the robot senses after a control step.

    Attributes:
        eef_pos: [3] metres, world frame (x away from the robot, y to its left, z up).
        eef_quat: [4] xyzw.
        gripper_qpos: [2] metres, (+, -) finger positions.
        joint_pos: [7] radians.
        images: camera name -> [H, W, 3] uint8 with rows bottom-up (OpenGL); empty when not rendered.
    """

    eef_pos: np.ndarray
    eef_quat: np.ndarray
    gripper_qpos: np.ndarray
    joint_pos: np.ndarray
    images: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def proprio(self) -> np.ndarray:
        """[8] float64: position, axis-angle orientation, finger positions (the published policies' state)."""
        return np.concatenate([self.eef_pos, quat_to_axis_angle(self.eef_quat), self.gripper_qpos])


def quat_to_axis_angle(quat: np.ndarray) -> np.ndarray:
    """Turn a quaternion [4] xyzw into an axis-angle vector [3] in radians, angle in [0, 2 pi), sign as given."""
    w = float(np.clip(quat[3], -1.0, 1.0))
    norm = np.sqrt(1.0 - w * w)
    if np.isclose(norm, 0.0):
        return np.zeros(3)
    return quat[:3] * 2.0 * np.arccos(w) / norm


def upright(image: np.ndarray) -> np.ndarray:
    """Flip a raw frame [..., H, W, 3] so that text reads correctly: for people and videos."""
    return image[..., ::-1, :, :]


def rotate_180(image: np.ndarray) -> np.ndarray:
    """Rotate a raw frame [..., H, W, 3] as published policies do: upright, but left and right are swapped."""
    return image[..., ::-1, ::-1, :]


class LiberoEnv:
    """A LIBERO task with exact resets, cameras on demand and privileged access.

    Create it inside the process that uses it: an EGL context does not survive a fork.

    Args:
        task: from `list_tasks`.
        image_size: height and width of the frames in pixels.
        cameras: names to render; an empty tuple makes an environment without OpenGL.
        reset_timeout: seconds after which a reset is given up (main thread only).
        cull: leave out of a frame what its camera cannot see; the pictures are the same to the last bit, only sooner.

    Raises:
        SimulatorUnavailableError: the simulator is missing or of a wrong version.
    """

    def __init__(
        self,
        task: LiberoTask,
        image_size: int = 256,
        cameras: Sequence[str] = CAMERAS,
        reset_timeout: float = 120.0,
        cull: bool = True,
    ) -> None:
        _, control_env = load_libero()
        self.task = task
        self.image_size = image_size
        self.cameras = tuple(cameras)
        self.reset_timeout = reset_timeout
        self.cull = cull
        self._culler: Culler | None = None
        self.versions = check_versions()
        self.env_kwargs: dict[str, Any] = {
            "robots": ["Panda"],
            "controller": "OSC_POSE",
            "control_freq": 20,
            "camera_names": list(self.cameras or CAMERAS),
            "camera_heights": image_size,
            "camera_widths": image_size,
            "use_camera_obs": bool(self.cameras),
            "has_offscreen_renderer": bool(self.cameras),
        }
        self._render = False
        self._geoms: dict[str, np.ndarray] = {}
        with quiet(), time_limit(reset_timeout), no_debugger():
            self._control = control_env(bddl_file_name=str(task.bddl_file), **self.env_kwargs)
        self._control.env.ignore_done = True  # else it takes no more than 1000 steps; horizons are the caller's
        self._gate_cameras()

    def _gate_cameras(self) -> None:
        """Let a camera's sensor answer with a blank frame while nobody wants the picture.

        The observable keeps its sampling clock, so the frames that are rendered are those of an environment that
        renders every step (disabling the observable, or rendering after the step, would give slightly other ones).
        """
        inner = self._control.env
        create = inner._create_camera_sensors
        blank = np.zeros((self.image_size, self.image_size, 3), dtype=np.uint8)

        def create_gated(camera: str, *args: Any, **kwargs: Any) -> tuple[list[Any], list[str]]:
            sensors, names = create(camera, *args, **kwargs)
            return [self._gated(sensor, camera, blank) for sensor in sensors], names

        inner._create_camera_sensors = create_gated

    def _gated(self, sensor: Any, camera: str, blank: np.ndarray) -> Any:
        def gated(cache: dict[str, Any]) -> np.ndarray:
            if not self._render:
                return blank
            with self.culled(camera):
                frame: np.ndarray = sensor(cache)
            return frame

        gated.__modality__ = sensor.__modality__  # type: ignore[attr-defined]
        return gated

    def culled(self, camera: str) -> AbstractContextManager[None]:
        """Render inside of this: what the camera cannot see is left out."""
        if not self.cull:
            return nullcontext()
        sim = self.sim
        if self._culler is None or self._culler.model is not sim.model._model:  # every reset makes a new model
            self._culler = Culler(sim.model._model, sim._render_context_offscreen.vopt)
        index = sim.model.camera_name2id(camera)
        return self._culler.applied(sim._render_context_offscreen, sim.data._data, index)

    def reset_to(
        self, initial_state: np.ndarray | None, seed: int, wait_steps: int = WAIT_STEPS, render: bool = True
    ) -> Observation:
        """Start an episode; the same arguments and actions give the same states and pictures to the last bit.

        Args:
            initial_state: [1 + nq + nv] flattened MuJoCo state, or None to place the objects at random by `seed`.
            seed: of the fixtures (never part of the state) and, without a state, of all placements and the arm.
            wait_steps: idle steps that let the objects settle.
            render: whether the returned observation has images.

        Raises:
            SimulatorHangError: the reset did not finish in time or found no valid placement.
            ValueError: the state does not belong to this task.
        """
        self._render = False
        self._hard_reset(seed)
        self.reset_state = self._random_state(seed) if initial_state is None else np.array(initial_state, np.float64)
        if self.reset_state.shape != self.state.shape:
            raise ValueError(f"{self.task.name}: state has shape {self.reset_state.shape}, need {self.state.shape}")
        self.sim.data.qacc_warmstart[:] = 0.0  # solver memory is not part of the state
        self._render = render and wait_steps == 0
        raw = self._control.set_init_state(self.reset_state)
        self.sim.data.qacc_warmstart[:] = 0.0
        observation = self._observe(raw)
        for step in range(wait_steps):
            observation, _ = self.step(IDLE_ACTION, render=render and step == wait_steps - 1)
        return observation

    def _hard_reset(self, seed: int) -> None:
        from robosuite.utils.errors import RandomizationError

        inner = self._control.env
        with numpy_seed(seed), time_limit(self.reset_timeout), no_debugger():
            for _ in range(_PLACEMENT_TRIES):
                # This list grows at every hard reset and would shift the random stream.
                inner.object_property_initializers = []
                try:
                    # Not ControlEnv.reset: it swallows every exception and tries for ever.
                    inner.reset()
                    return
                except RandomizationError:
                    continue
        raise SimulatorHangError(f"{self.task.name}: no valid placement in {_PLACEMENT_TRIES} tries, seed {seed}")

    def _random_state(self, seed: int) -> np.ndarray:
        """The freshly placed state with the arm's joints perturbed.

        The noise is put into the state and not asked of robosuite, which would move the controller's posture goal
        along with it; official initial states are played against the nominal posture.
        """
        state = self.state
        state[1:8] += np.random.default_rng(seed).normal(0.0, ARM_NOISE, size=7)
        return state

    def step(self, action: np.ndarray, render: bool = True) -> tuple[Observation, bool]:
        """Apply one action for 1/20 s.

        Args:
            action: [7] in [-1, 1]: translation in 5 cm and rotation in 0.5 rad, both in the world frame, and the
                gripper, -1 open and +1 close.
            render: whether the observation has images.

        Returns:
            The observation after the step, and whether the task's goal holds at this moment.
        """
        self._render = render
        raw, _, done, _ = self._control.step(np.asarray(action, dtype=np.float64))
        return self._observe(raw), bool(done)

    def _observe(self, raw: dict[str, np.ndarray]) -> Observation:
        images = {name: raw[f"{name}_image"].copy() for name in self.cameras} if self._render else {}
        names = ("eef_pos", "eef_quat", "gripper_qpos", "joint_pos")
        return Observation(**{name: np.array(raw[f"robot0_{name}"], np.float64) for name in names}, images=images)

    # --- privileged access: for experts, recorders and audits, never for a policy under evaluation ---

    @property
    def inner(self) -> Any:
        """LIBERO's own problem object."""
        return self._control.env

    @property
    def sim(self) -> Any:
        """robosuite's binding of the MuJoCo model and data."""
        return self._control.env.sim

    @property
    def state(self) -> np.ndarray:
        """[1 + nq + nv] float64: time, qpos, qvel; a copy."""
        return np.array(self._control.get_sim_state(), dtype=np.float64)

    @property
    def goals(self) -> list[list[str]]:
        """The goal's predicates, for example [["in", "milk_1", "basket_1_contain_region"]]."""
        return [list(goal) for goal in self.inner.parsed_problem["goal_state"]]

    @property
    def bddl_language(self) -> str:
        """The problem file's own wording, which often differs from the instruction `task.language`."""
        spoken = self._control.language_instruction
        return spoken if isinstance(spoken, str) else " ".join(spoken)

    @property
    def movable_objects(self) -> list[str]:
        """Names of the objects that can be picked up."""
        return list(self.inner.objects_dict)

    @property
    def fixtures(self) -> list[str]:
        """Names of the furniture (cabinet, stove, ...)."""
        return [name for name in self.inner.fixtures_dict if name in self.inner.obj_body_id]

    def collision_geoms(self, name: str) -> np.ndarray:
        """Indices [N] into MuJoCo's geoms of an object's or fixture's colliding shapes, moving parts included."""
        if name not in self._geoms:  # a hard reset builds the same model again, so the indices stay
            model = self.sim.model._model
            members = {self.inner.obj_body_id[name]}
            for body in range(model.nbody):  # parents come before their children
                if model.body_parentid[body] in members:
                    members.add(body)
            self._geoms[name] = np.flatnonzero(np.isin(model.geom_bodyid, list(members)) & (model.geom_contype != 0))
        return self._geoms[name]

    def close(self) -> None:
        """Free the simulator and its OpenGL context."""
        self._control.close()
