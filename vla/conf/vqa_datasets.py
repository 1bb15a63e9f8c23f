"""Questions about images, packed into sequences: where they lie, which are kept, how they are packed."""

from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path
from typing import ClassVar

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive
from vla.conf.datasets import DatasetConfig
from vla.conf.registry import register_enum

PACKERS = ("best-fit", "published", "none")


@dataclass(frozen=True)
class PackingConfig:
    """How samples become sequences of `model.processor.max_length` tokens."""

    algorithm: str = "best-fit"  # best-fit (99 % full) | published (nanoVLM's packs) | none (a sample per sequence)
    buffer_size: int = 128  # best-fit: samples that each stream holds back to choose from
    num_sequences: int = 8  # published: sequences whose tokens make a buffer (there: 4 x batch size)
    max_images: int = 18  # images of a sequence
    max_images_per_sample: int | None = None  # samples with more are left out; none: max_images
    max_sample_length: int | None = None  # tokens; longer samples are left out; none: those that fit
    cross_document_attention: bool = False  # true: samples of a sequence see those before them, as published
    streams: int = 8  # streams of each process at least, dealt out to its workers; fixes the order of samples

    def __post_init__(self) -> None:
        require_choice(self, "algorithm", PACKERS)
        require_positive(self, "buffer_size", "num_sequences", "max_images", "max_images_per_sample")
        require_positive(self, "max_sample_length", "streams")


@dataclass(frozen=True)
class RatingsConfig:
    """The least rating (1 to 5) that a turn needs to be kept; turns without a rating are kept."""

    relevance: int = 1  # of the answer to the question
    image_correspondence: int = 1  # of the answer to the image
    visual_dependency: int = 1  # of the question on the image
    formatting: int = 1  # of the text


@dataclass(frozen=True)
class PackedDatasetConfig(DatasetConfig):
    """Base of datasets that are packed."""

    task: ClassVar[str] = "vqa"

    root: Path | None = None  # folder of the data
    on_bad_sample: str = "skip"  # skip (tell and count) | error
    packing: PackingConfig = field(default_factory=PackingConfig)

    def __post_init__(self) -> None:
        require_choice(self, "on_bad_sample", ("skip", "error"))


@dataclass(frozen=True)
class VQAConfig(PackedDatasetConfig):
    """
    Data in the layout of Hugging Face's `datasets`: rows `{"images", "texts": [{"user", "assistant"}], "*_ratings"}`.

    `root` may be a dataset saved to disk, a folder of Parquet, Arrow or JSON-lines files, or a folder of such folders,
    which are its configurations or shards. A configuration that can't be opened is left out, told and counted.
    """

    dataset_id: ClassVar[str] = "vqa"
    target: ClassVar[str] = "vla.data.vqa.datasets:HuggingFaceVQA"

    hub: str | None = None  # Hugging Face id, instead of root
    configs: tuple[str, ...] = ()  # configurations, or folders below root; empty: all of root's, the default one of hub
    weights: tuple[float, ...] = ()  # by configuration, how often it is read per epoch; empty: each once
    split: str = "train"  # where a dataset has several; of files, by their names (train-00000-of-00002.parquet)
    streaming: bool = False  # read files from front to back as they come, instead of at random; needs max_steps
    validation_samples: int = 512  # held out: of a random order, or the first ones of a stream; 0: none
    min_ratings: RatingsConfig = field(default_factory=RatingsConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "validation_samples")
        require("hub", self.hub is None or self.root is None, "can't be given together with root", self.hub)
        given = not self.weights or len(self.weights) == len(self.configs)
        twice = len({*self.configs}) < len(self.configs)
        require("configs", not twice, "must name each once; weights say how often they are read", self.configs)
        require("weights", given, "must have one number for each of configs", self.weights)
        require("weights", all(weight > 0 for weight in self.weights), "must be > 0", self.weights)


@dataclass(frozen=True)
class LlavaVQAConfig(PackedDatasetConfig):
    """Rows in LLaVA's format, packed; the defaults are what `scripts/data.py render-vqa` writes."""

    dataset_id: ClassVar[str] = "vqa-rendered-packed"
    target: ClassVar[str] = "vla.data.vqa.datasets:LlavaVQA"

    annotations: str = "finetune.json"  # file with the rows
    images: str = "."  # folder in which their image paths begin
    validation_annotations: str | None = "validation.json"  # held-out rows; none: validation_fraction of annotations
    validation_fraction: float = 0.05  # share of the images to hold out, with all of their rows

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction = self.validation_fraction
        require("validation_fraction", 0 <= fraction < 1, "must be within [0, 1)", fraction)


@unique
class PackedDatasetRegistry(Enum):
    """Datasets for models that learn from packed sequences."""

    VQA = VQAConfig
    VQA_RENDERED_PACKED = LlavaVQAConfig

    @property
    def dataset_id(self) -> str:
        """The name that users write as the dataset's type."""
        return self.value.dataset_id


register_enum(DatasetConfig, PackedDatasetRegistry, "dataset_id")
