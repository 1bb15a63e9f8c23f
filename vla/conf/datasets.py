"""Datasets: where they lie, how they are split, and what to do about bad data."""

from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import ClassVar

import draccus

from vla.conf.checks import require_choice, require_nonnegative, require_positive
from vla.conf.registry import register_enum

SHIPPED_DATA = Path(__file__).resolve().parents[2] / "experiments" / "data"


@dataclass(frozen=True)
class DatasetConfig(draccus.ChoiceRegistry):
    """Base of all datasets. `target` is the class that reads it; it is never read from a file."""

    dataset_id: ClassVar[str] = ""
    target: ClassVar[str] = ""
    task: ClassVar[str] = ""  # action | language | anomaly: must equal the model's
    needs_stage: ClassVar[bool] = False  # whether its stages read different data

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "libero-mini"


@dataclass(frozen=True)
class LiberoConfig(DatasetConfig):
    """Demonstrations in LIBERO's HDF5 layout: one file per task, `data/demo_i/{actions, obs/...}`."""

    target: ClassVar[str] = "vla.data.datasets.libero:LiberoDataset"
    task: ClassVar[str] = "action"

    root: Path | None = None  # folder with *.hdf5 (searched in sub-folders too)
    tasks: tuple[str, ...] = ()  # file names without _demo.hdf5; empty: all
    validation_episodes: int = 1  # episodes held out of each task: its last ones
    max_episodes_per_task: int | None = None  # the first ones; none: all
    observation_alignment: str = "auto"  # before | after the action of its row | auto (by the file's attributes)
    instruction_source: str = "problem_info"  # problem_info (the file's attribute, else its name) | file_name
    action_source: str = "actions"  # actions (as executed) | expert_actions (of our recorder, without the noise)
    filter_noops: bool = False  # drop steps whose action moves nothing and repeats the gripper command
    on_bad_episode: str = "error"  # error | skip (and report how many)
    frame_cache_mb: int = 512  # decoded frames of compressed files that each reading process keeps; 0: none

    def __post_init__(self) -> None:
        require_nonnegative(self, "validation_episodes", "frame_cache_mb")
        require_positive(self, "max_episodes_per_task")
        require_choice(self, "instruction_source", ("problem_info", "file_name"))
        require_choice(self, "observation_alignment", ("auto", "before", "after"))
        require_choice(self, "action_source", ("actions", "expert_actions"))
        require_choice(self, "on_bad_episode", ("error", "skip"))


@dataclass(frozen=True)
class LiberoSpatialConfig(LiberoConfig):
    """LIBERO-Spatial, 10 tasks."""

    dataset_id: ClassVar[str] = "libero-spatial"


@dataclass(frozen=True)
class LiberoObjectConfig(LiberoConfig):
    """LIBERO-Object, 10 tasks."""

    dataset_id: ClassVar[str] = "libero-object"


@dataclass(frozen=True)
class LiberoGoalConfig(LiberoConfig):
    """LIBERO-Goal, 10 tasks."""

    dataset_id: ClassVar[str] = "libero-goal"


@dataclass(frozen=True)
class Libero10Config(LiberoConfig):
    """LIBERO-10 (long), 10 tasks."""

    dataset_id: ClassVar[str] = "libero-10"


@dataclass(frozen=True)
class Libero90Config(LiberoConfig):
    """LIBERO-90, 90 tasks."""

    dataset_id: ClassVar[str] = "libero-90"


@dataclass(frozen=True)
class LiberoFolderConfig(LiberoConfig):
    """Everything below a folder that is in LIBERO's layout, several suites too."""

    dataset_id: ClassVar[str] = "libero"


@dataclass(frozen=True)
class LiberoMiniConfig(LiberoConfig):
    """A few tasks recorded by a scripted expert in the LIBERO simulator; ships with the repository."""

    dataset_id: ClassVar[str] = "libero-mini"

    root: Path | None = SHIPPED_DATA / "libero-mini"


@unique
class DatasetRegistry(Enum):
    """Datasets that the toolkit reads; packages add more by the entry-point group `vla.datasets`."""

    LIBERO_SPATIAL = LiberoSpatialConfig
    LIBERO_OBJECT = LiberoObjectConfig
    LIBERO_GOAL = LiberoGoalConfig
    LIBERO_10 = Libero10Config
    LIBERO_90 = Libero90Config
    LIBERO = LiberoFolderConfig
    LIBERO_MINI = LiberoMiniConfig

    @property
    def dataset_id(self) -> str:
        """The name that users write as the dataset's type."""
        return self.value.dataset_id


register_enum(DatasetConfig, DatasetRegistry, "dataset_id")
