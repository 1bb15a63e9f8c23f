"""`Protocol`: every choice that decides a success rate, and the check that a checkpoint fits the simulator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vla.conf.libero import SUITE_HORIZONS, WAIT_STEPS
from vla.evaluation.simulator.libero_env import ACTION_DIM

# The names that data sets use, and the simulator's.
CAMERA_NAMES = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}
PUBLISHED_IMAGE_SIZE = 256

# What the simulator takes and gives, in the words of a checkpoint's contract (`conventions`).
SIMULATOR_CONVENTIONS: dict[str, Any] = {
    "action_scale": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5, 1.0],
    "action_frame": "world: x away from the robot, y to its left, z up; delta to the current pose (OSC_POSE)",
    "rotation": "axis-angle",
    "control_hz": 20.0,
    "proprio_names": ["x", "y", "z", "rotation x", "rotation y", "rotation z", "left finger", "right finger"],
    "proprio_units": ["m", "m", "m", "rad", "rad", "rad", "m", "m"],
    "camera_orientation": "bottom_up",
    "observation_alignment": "before",
    "wait_steps": WAIT_STEPS,
    "horizons": SUITE_HORIZONS,
}
_OF_THE_BENCHMARK = ("wait_steps", "horizons")  # data of other robots has none, and older checkpoints don't say


@dataclass(frozen=True)
class Protocol:
    """How episodes are played and judged. All of it is saved with the results.

    Attributes:
        suite: the simulator's name of it, `libero_object`.
        horizon: control steps after which an episode is a failure, the waiting not counted.
        wait_steps: idle steps in which the objects settle.
        image_size: height and width in pixels at which the cameras render; the policy resizes from there.
        cameras: in the policy's order, by the names of the data.
        num_frames: frames of history per camera.
        frame_stride: control steps between two of them.
        execute_steps: actions of a chunk that are executed before the policy is asked again.
        ensemble: None executes the newest chunk. A number averages all chunks that cover a step, the i-th oldest with
            weight exp(-ensemble * i) (temporal ensembling).
        seed: of the furniture's placement and of anything random in a policy.
        orientation: what the policy does to the simulator's bottom-up frames; upright | rotate_180 | raw.
        rotation: form of an action's rotation, in the world frame.
        gripper: how the policy's value in [-1 open, +1 closed] becomes the command.
    """

    suite: str
    horizon: int
    wait_steps: int = WAIT_STEPS
    image_size: int = PUBLISHED_IMAGE_SIZE
    cameras: tuple[str, ...] = ("agentview", "eye_in_hand")
    num_frames: int = 1
    frame_stride: int = 1
    execute_steps: int = 1
    ensemble: float | None = None
    seed: int = 0
    orientation: str = "rotate_180"
    rotation: str = "axis-angle"
    gripper: str = "sign: -1 opens, +1 closes"

    def __post_init__(self) -> None:
        rules = {
            "suite": (self.suite in SUITE_HORIZONS, f"must be one of {', '.join(SUITE_HORIZONS)}"),
            "horizon": (self.horizon > 0, "must be > 0"),
            "wait_steps": (self.wait_steps >= 0, "must be >= 0"),
            "image_size": (self.image_size >= 16, "must be >= 16"),
            "num_frames": (self.num_frames > 0, "must be > 0"),
            "frame_stride": (self.frame_stride > 0, "must be > 0"),
            "execute_steps": (self.execute_steps > 0, "must be > 0"),
            "ensemble": (self.ensemble is None or self.ensemble >= 0.0, "must be >= 0 or none"),
        }
        for name, (valid, rule) in rules.items():
            if not valid:
                raise ValueError(f"{name}: {rule}, got {getattr(self, name)!r}")
        unknown = [name for name in self.cameras if name not in CAMERA_NAMES]
        if unknown:
            raise ValueError(f"cameras: the simulator has {', '.join(CAMERA_NAMES)}, the policy wants {unknown[0]!r}")

    @property
    def simulator_cameras(self) -> tuple[str, ...]:
        """The cameras by the simulator's names, in the policy's order."""
        return tuple(CAMERA_NAMES[name] for name in self.cameras)

    @property
    def hash(self) -> str:
        """12 hexadecimal digits that differ when anything of the protocol does."""
        return short_hash(asdict(self))

    def frame_needed(self, step: int) -> bool:
        """Whether the policy will look at the frame that is seen before control step `step`.

        It looks at every `execute_steps`-th frame, and from each at the `num_frames` - 1 before it, `frame_stride`
        apart; before the first frame, that one is repeated.
        """
        return any((step + i * self.frame_stride) % self.execute_steps == 0 for i in range(self.num_frames))


def suite_name(text: str) -> str:
    """`libero-object` or `libero_object` to the simulator's name.

    Raises:
        ValueError: there is no such suite.
    """
    name = text.replace("-", "_")
    if name not in SUITE_HORIZONS:
        raise ValueError(f"suite: must be one of {', '.join(SUITE_HORIZONS)}, got {text!r}")
    return name


def short_hash(value: Any) -> str:
    """12 hexadecimal digits of the SHA-256 of anything that JSON holds."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def contract_differences(contract: Mapping[str, Any]) -> list[str]:
    """What of a checkpoint's contract (`Processor.contract()`) the simulator does otherwise, one line each.

    Gripper range and polarity of the training files are no difference: a policy answers in model space, -1 open and
    +1 closed, whatever the files held.
    """
    config, conventions = contract["config"], contract["conventions"]
    lines = []
    if config["action_dim"] != ACTION_DIM:
        lines.append(f"action_dim: {config['action_dim']} in the checkpoint, {ACTION_DIM} in the simulator")
    lines += [
        f"cameras: the checkpoint wants {name!r}, the simulator has {', '.join(CAMERA_NAMES)}"
        for name in config["cameras"]
        if name not in CAMERA_NAMES
    ]
    if contract.get("model_gripper", "-1 open, +1 closed") != "-1 open, +1 closed":
        lines.append(f"model_gripper: {contract['model_gripper']!r} in the checkpoint, '-1 open, +1 closed' expected")
    for name, ours in SIMULATOR_CONVENTIONS.items():
        if name.startswith("proprio") and not config["proprio"]:
            continue
        theirs = conventions.get(name)
        if name in _OF_THE_BENCHMARK and theirs in (None, {}):
            continue
        theirs = list(theirs) if isinstance(theirs, tuple) else theirs
        if theirs != ours:
            lines.append(f"{name}: {theirs!r} in the checkpoint, {ours!r} in the simulator")
    return lines
