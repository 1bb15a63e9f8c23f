"""Datasets: where they lie, how they are split, and what to do about bad data."""

from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import ClassVar

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive
from vla.conf.dataset_base import DatasetConfig
from vla.conf.registry import register_enum
from vla.conf.robot_datasets import LeRobotConfig, RLDSConfig

SHIPPED_DATA = Path(__file__).resolve().parents[2] / "experiments" / "data"


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


_ALIGN = "download/llava-laion-cc-sbu-558k"
_INSTRUCT = "download/llava-v1.5-instruct"


@dataclass(frozen=True)
class LlavaConfig(DatasetConfig):
    """Images with dialogues in LLaVA's format: rows `{"image", "conversations"}` in a JSON list, one list per stage.

    `scripts/data.py download` fetches the published ones and puts them where these paths say.
    """

    target: ClassVar[str] = "vla.data.language.datasets:LlavaDataset"
    task: ClassVar[str] = "language"
    needs_stage: ClassVar[bool] = True

    root: Path | None = None  # folder in which all other paths begin
    align_annotations: str = f"{_ALIGN}/chat.json"  # images with captions, for the align stage
    align_images: str = _ALIGN  # folder in which the image paths of its rows begin
    align_validation_annotations: str | None = None  # held-out rows; none: validation_fraction of align_annotations
    finetune_annotations: str = f"{_INSTRUCT}/llava_v1_5_mix665k.json"  # dialogues, for all other stages
    finetune_images: str = _INSTRUCT
    finetune_validation_annotations: str | None = None
    validation_fraction: float = 0.0  # share of the images to hold out, with all of their rows; published: nothing
    use_images: bool = True  # false: every row becomes text alone, to see what can be guessed without looking
    on_bad_example: str = "error"  # error | skip (and report how many)

    def __post_init__(self) -> None:
        fraction = self.validation_fraction
        require("validation_fraction", 0 <= fraction < 1, "must be within [0, 1)", fraction)
        require_choice(self, "on_bad_example", ("error", "skip"))


@dataclass(frozen=True)
class LlavaV15Config(LlavaConfig):
    """LLaVA v1.5: 558k captions to align, 665k dialogues to finetune."""

    dataset_id: ClassVar[str] = "llava-v15"


@dataclass(frozen=True)
class LlavaMultimodalConfig(LlavaConfig):
    """LLaVA v1.5 without its 40k dialogues about no image."""

    dataset_id: ClassVar[str] = "llava-multimodal"

    finetune_annotations: str = f"{_INSTRUCT}/llava_v1_5_stripped625k.json"


@dataclass(frozen=True)
class LlavaLVIS4VConfig(LlavaConfig):
    """LLaVA v1.5 and LVIS-Instruct-4V."""

    dataset_id: ClassVar[str] = "llava-lvis4v"

    finetune_annotations: str = f"{_INSTRUCT}/llava_v1_5_lvis4v_mix888k.json"


@dataclass(frozen=True)
class LlavaLRVConfig(LlavaConfig):
    """LLaVA v1.5 and LRV-Instruct."""

    dataset_id: ClassVar[str] = "llava-lrv"

    finetune_annotations: str = f"{_INSTRUCT}/llava_v1_5_lrv_mix1008k.json"


@dataclass(frozen=True)
class LlavaLVIS4VLRVConfig(LlavaConfig):
    """LLaVA v1.5, LVIS-Instruct-4V and LRV-Instruct."""

    dataset_id: ClassVar[str] = "llava-lvis4v-lrv"

    finetune_annotations: str = f"{_INSTRUCT}/llava_v1_5_lvis4v_lrv_mix1231k.json"


@dataclass(frozen=True)
class RenderedVQAConfig(LlavaConfig):
    """Pictures of blocks with questions whose answers are true, as `scripts/data.py render-vqa` writes them."""

    dataset_id: ClassVar[str] = "vqa-rendered"

    align_annotations: str = "align.json"
    align_images: str = "."
    finetune_annotations: str = "finetune.json"
    finetune_images: str = "."
    finetune_validation_annotations: str | None = "validation.json"
    validation_fraction: float = 0.05


@dataclass(frozen=True)
class MVTecADConfig(DatasetConfig):
    """MVTec-AD, or pictures in its layout: `<class>/{train,test}/<good or a defect>/`, `<class>/ground_truth/`."""

    dataset_id: ClassVar[str] = "mvtec-ad"
    target: ClassVar[str] = "vla.data.anomaly.dataset:MVTecADDataset"
    task: ClassVar[str] = "anomaly"

    root: Path | None = None  # folder of the classes, or of mvtec_anomaly_detection/ with the meta files beside it
    train_meta: str = "train.json"  # JSON lines below root; where there are none, the folders are looked through
    test_meta: str = "test.json"  # held out, and what the metrics are of
    image_dir: Path | None = None  # where names of files start; none: mvtec_anomaly_detection/ in root, or else root
    classes: tuple[str, ...] = ()  # of both splits; empty: all
    hflip: bool = False  # mirror half of the training pictures left to right
    vflip: bool = False  # mirror half of the training pictures upside down
    rotate: bool = False  # turn half of the training pictures by 90, 180 or 270 degrees
    image_cache_mb: int = 1024  # pictures, as the model sees them, that each reading process keeps; 0: none

    def __post_init__(self) -> None:
        require_nonnegative(self, "image_cache_mb")


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
    LEROBOT = LeRobotConfig
    RLDS = RLDSConfig
    LLAVA_V15 = LlavaV15Config
    LLAVA_MULTIMODAL = LlavaMultimodalConfig
    LLAVA_LVIS4V = LlavaLVIS4VConfig
    LLAVA_LRV = LlavaLRVConfig
    LLAVA_LVIS4V_LRV = LlavaLVIS4VLRVConfig
    VQA_RENDERED = RenderedVQAConfig
    MVTEC_AD = MVTecADConfig

    @property
    def dataset_id(self) -> str:
        """The name that users write as the dataset's type."""
        return self.value.dataset_id


register_enum(DatasetConfig, DatasetRegistry, "dataset_id")
