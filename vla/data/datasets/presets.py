"""What is known of public robot data that its files don't say: names of fields, units, signs, which way up."""

from dataclasses import dataclass, fields, replace
from typing import Any

from vla.conf.robot_datasets import PRESETS, ConventionsConfig, RobotDataConfig
from vla.data.conventions import LIBERO_CONVENTIONS

_LIBERO = ConventionsConfig(
    action_units=LIBERO_CONVENTIONS.action_units,
    action_scale=LIBERO_CONVENTIONS.action_scale,
    action_names=LIBERO_CONVENTIONS.action_names,
    action_frame=LIBERO_CONVENTIONS.action_frame,
    rotation=LIBERO_CONVENTIONS.rotation,
    gripper_open=LIBERO_CONVENTIONS.gripper_open,
    gripper_closed=LIBERO_CONVENTIONS.gripper_closed,
    proprio_names=LIBERO_CONVENTIONS.proprio_names,
    proprio_units=LIBERO_CONVENTIONS.proprio_units,
    camera_orientation=LIBERO_CONVENTIONS.camera_orientation,
)
_HAND = ConventionsConfig(  # of Open X-Embodiment: a movement of the hand, the gripper 1 for open
    action_units=("m", "m", "m", "rad", "rad", "rad", "0 closed, 1 open"),
    action_names=("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    action_frame="robot's base; delta to the current pose",
    rotation="roll, pitch, yaw",
    gripper_open=1.0,
    gripper_closed=0.0,
    camera_orientation="top_down",
)


@dataclass(frozen=True)
class Preset:
    """Values for fields of a `RobotDataConfig` that are left at their defaults."""

    conventions: ConventionsConfig
    values: dict[str, Any]
    fps: float  # where the files don't say it


_BY_NAME = {
    # LIBERO's demonstrations, their pictures bottom-up as in LIBERO's own files.
    "libero": Preset(_LIBERO, {}, 20.0),
    # Copies whose pictures were turned by 180 degrees, as those for OpenVLA and openpi are: upright, but mirrored.
    "libero-rotated": Preset(replace(_LIBERO, camera_orientation="top_down_mirrored"), {}, 20.0),
    # Bridge V2 from its authors. Its first actions are zeros; OpenVLA leaves them out, too. It also puts the movement
    # that was reached in the place of the commands, which is not done here.
    "bridge-orig": Preset(
        replace(_HAND, gripper="binarize"),
        {"cameras": ("steps/observation/image_0",), "skip_first_steps": 1},
        5.0,
    ),
    # RT-1's data. The gripper's commands are relative.
    "fractal": Preset(
        replace(_HAND, gripper="relative"),
        {
            "cameras": ("steps/observation/image",),
            "action_keys": (
                "steps/action/world_vector", "steps/action/rotation_delta", "steps/action/gripper_closedness_action",
            ),
            "state_keys": ("steps/observation/base_pose_tool_reached", "steps/observation/gripper_closed"),
            "instruction_key": "steps/observation/natural_language_instruction",
        },
        3.0,
    ),
}  # fmt: skip
assert set(_BY_NAME) == set(PRESETS)


def with_preset(config: RobotDataConfig) -> tuple[RobotDataConfig, float | None]:
    """`config` with its preset's values where it has defaults, and the preset's steps per second (None: no preset)."""
    if config.preset is None:
        return config, None
    preset = _BY_NAME[config.preset]
    conventions = _filled(
        config.conventions, {f.name: getattr(preset.conventions, f.name) for f in fields(preset.conventions)}
    )
    return _filled(replace(config, conventions=conventions), preset.values), preset.fps


def _filled(config: Any, values: dict[str, Any]) -> Any:
    defaults = {item.name: item.default for item in fields(config)}
    return replace(config, **{n: v for n, v in values.items() if getattr(config, n) == defaults[n]})
