"""What the numbers in a dataset mean: axes, units, signs, and which way up the pictures are stored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vla.conf.libero import SUITE_HORIZONS, WAIT_STEPS

_OF_THE_BENCHMARK = ("wait_steps", "horizons")  # checkpoints of before they were written down meant the published ones


@dataclass(frozen=True)
class Conventions:
    """Meaning of actions, robot states and images as a dataset stores them. The defaults are LIBERO's.

    LIBERO drives robosuite's OSC_POSE controller: an action moves the hand relative to where it is now. The gripper
    command is the last dimension of an action; whatever its values in the files, a model sees and predicts -1 for open
    and +1 for closed.
    """

    action_names: tuple[str, ...] = ("x", "y", "z", "rotation x", "rotation y", "rotation z", "gripper")
    action_units: tuple[str, ...] = ("m", "m", "m", "rad", "rad", "rad", "-1 open, +1 closed")  # after `action_scale`
    action_scale: tuple[float, ...] = (0.05, 0.05, 0.05, 0.5, 0.5, 0.5, 1.0)  # units per 1.0 of a stored action
    action_frame: str = "world: x away from the robot, y to its left, z up; delta to the current pose (OSC_POSE)"
    rotation: str = "axis-angle"
    gripper_open: float = -1.0  # in the files
    gripper_closed: float = 1.0  # in the files
    control_hz: float = 20.0
    proprio_names: tuple[str, ...] = (
        "x", "y", "z", "rotation x", "rotation y", "rotation z", "left finger", "right finger",
    )  # fmt: skip
    proprio_units: tuple[str, ...] = ("m", "m", "m", "rad", "rad", "rad", "m", "m")
    image_shape: tuple[int, int] | None = None  # height and width in pixels of stored images; none: not known
    camera_orientation: str = "bottom_up"  # how files store images: bottom_up (OpenGL: lowest row first) | top_down |
    #                                        top_down_mirrored (LIBERO's, turned by 180 degrees: left is right)
    observation_alignment: str = "before"  # an action's observation is the one before it; readers shift other files
    wait_steps: int | None = WAIT_STEPS  # idle before an episode of the data's benchmark; none: it has none
    horizons: Mapping[str, int] = field(default_factory=lambda: dict(SUITE_HORIZONS))  # of an episode, by suite

    def to_dict(self) -> dict[str, Any]:
        """A plain dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Conventions":
        """The inverse of `to_dict`, lists allowed for tuples.

        Raises:
            ValueError: a field is missing or unknown; a default could mean something else than what was saved.
        """
        if values.keys() | set(_OF_THE_BENCHMARK) != {item.name for item in fields(cls)}:
            raise ValueError("conventions with other fields")
        tuples: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**tuples)


LIBERO_CONVENTIONS = Conventions()


def flips(camera_orientation: str, orientation: str) -> tuple[bool, bool]:
    """Whether rows and columns of stored images are reversed before a model sees them.

    Args:
        camera_orientation: how they are stored; see `Conventions`.
        orientation: what the model sees: raw (as stored) | upright | rotate_180, which means what OpenVLA does to
            LIBERO's bottom-up images: upright, but mirrored left to right.
    """
    if orientation == "raw":
        return False, False
    mirrored = camera_orientation == "top_down_mirrored"
    return camera_orientation == "bottom_up", mirrored != (orientation == "rotate_180")
