"""Demonstrations of any robot in public layouts: LeRobot's, and RLDS as Open X-Embodiment has it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive
from vla.conf.dataset_base import DatasetConfig

LIBERO_PRESETS = ("libero", "libero-rotated")  # data of LIBERO's benchmark
PRESETS = (*LIBERO_PRESETS, "bridge-orig", "fractal")  # see `vla.data.datasets.presets`
ORIENTATIONS = ("top_down", "bottom_up", "top_down_mirrored")
GRIPPER_COMMANDS = ("as_stored", "binarize", "relative")


@dataclass(frozen=True)
class ConventionsConfig:
    """What a dataset's numbers and pictures mean. What its files don't say has no default: it is given, or a preset."""

    action_units: tuple[str, ...] = ()  # of every dimension, once multiplied by action_scale; must be given
    action_scale: tuple[float, ...] = ()  # units per 1.0 of a stored action; empty: 1.0 each
    action_names: tuple[str, ...] = ()  # empty: as the files name them
    action_frame: str | None = None  # in words: absolute, or relative to what, in which axes; must be given
    rotation: str | None = None  # form of an action's rotation in words, "none" if it has none; must be given
    gripper: str = (
        "as_stored"  # as_stored | binarize (to 0 and 1) | relative (+1 closes, -1 opens, to 1 open, 0 closed)
    )
    gripper_open: float | None = None  # value of an action's last dimension that opens; must be given
    gripper_closed: float | None = None  # and that closes; must be given
    proprio_names: tuple[str, ...] = ()  # empty: as the files name them
    proprio_units: tuple[str, ...] = ()  # empty: not stated
    camera_orientation: str | None = None  # top_down | bottom_up | top_down_mirrored (left is right); must be given
    observation_alignment: str = (
        "before"  # a step's observation was taken before (as both layouts say) | after its action
    )

    def __post_init__(self) -> None:
        require_choice(self, "gripper", GRIPPER_COMMANDS)
        require_choice(self, "observation_alignment", ("before", "after"))
        if self.camera_orientation is not None:
            require_choice(self, "camera_orientation", ORIENTATIONS)
        same = self.gripper_open is not None and self.gripper_open == self.gripper_closed
        require("gripper_closed", not same, "must be another value than gripper_open", self.gripper_closed)


@dataclass(frozen=True)
class RobotDataConfig(DatasetConfig):
    """Base of demonstrations in a layout that any robot can have."""

    task: ClassVar[str] = "action"

    root: Path | None = None  # folder of the dataset
    preset: str | None = None  # what is known of a dataset: libero | libero-rotated | bridge-orig | fractal
    conventions: ConventionsConfig = field(default_factory=ConventionsConfig)
    cameras: tuple[str, ...] = ()  # keys of pictures, one for each of model.processor.cameras; empty: all, in order
    action_keys: tuple[str, ...] = ()  # whose values are put together, the gripper last; empty: `action`
    state_keys: tuple[str, ...] = ()  # whose values are put together for the model's proprio; empty: `state`
    instruction_key: str | None = None  # a number of a task or a text; none: what the layout calls so
    fps: float | None = None  # steps per second; none: what the files say
    skip_first_steps: int = 0  # of every episode
    validation_episodes: int = 1  # held out of each task that has more than these: its last ones
    max_episodes_per_task: int | None = None  # the first ones; none: all
    filter_noops: bool = False  # drop steps whose (relative) action moves nothing and repeats the gripper command
    on_bad_episode: str = "error"  # error | skip (and report how many)
    frame_cache_mb: int = 512  # frames that each reading process keeps; 0: none

    def __post_init__(self) -> None:
        if self.preset is not None:
            require_choice(self, "preset", PRESETS)
        require_nonnegative(self, "validation_episodes", "frame_cache_mb", "skip_first_steps")
        require_positive(self, "max_episodes_per_task", "fps")
        require_choice(self, "on_bad_episode", ("error", "skip"))


@dataclass(frozen=True)
class LeRobotConfig(RobotDataConfig):
    """A dataset in LeRobot's layout, v2.0, v2.1 or v3.0: parquet files with pictures in them, beside them or in mp4."""

    dataset_id: ClassVar[str] = "lerobot"
    target: ClassVar[str] = "vla.data.datasets.robot:LeRobotDataset"


@dataclass(frozen=True)
class RLDSConfig(RobotDataConfig):
    """A dataset in RLDS, as Open X-Embodiment has it: TFRecord files with a features.json. TensorFlow isn't needed."""

    dataset_id: ClassVar[str] = "rlds"
    target: ClassVar[str] = "vla.data.datasets.robot:RLDSDataset"

    split: str = "train"  # that is trained on
    validation_split: str | None = None  # that is held out; none: validation_episodes of `split`
