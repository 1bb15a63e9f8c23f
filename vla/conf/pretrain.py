"""`PretrainConfig`: everything that a training run is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vla.conf.vqa_datasets  # noqa: F401 - makes its datasets choices
from vla.conf.background import BackgroundEvaluationConfig
from vla.conf.checks import require, require_choice, require_nonnegative, require_positive
from vla.conf.datasets import DatasetConfig
from vla.conf.models import ModelConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.stage import Stage, StageConfig

TRACKERS = ("jsonl", "tensorboard", "wandb", "prismatic")
DEFAULT_DATASETS = {  # by the model's task
    "action": "libero-mini", "anomaly": "mvtec-ad", "language": "llava-v15", "vqa": "vqa",
}  # fmt: skip


def default_dataset(task: str) -> DatasetConfig:
    """The dataset of a run that names none; of no kind at all if there is none for models of this task."""
    name = DEFAULT_DATASETS.get(task)
    return DatasetConfig.get_choice_class(name)() if name in DatasetConfig.get_known_choices() else DatasetConfig()


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are read."""

    num_workers: int = 1  # processes that read ahead, per training process
    prefetch_factor: int = 4  # batches that each of them keeps ready
    split_modality: str = "auto"  # auto (finetune stages of datasets with text-only rows) | always | never

    def __post_init__(self) -> None:
        require_nonnegative(self, "num_workers")
        require_positive(self, "prefetch_factor")
        require_choice(self, "split_modality", ("auto", "always", "never"))


@dataclass(frozen=True)
class FeatureCacheConfig:
    """Where what frozen module groups compute is kept (if the stage's `cache_frozen_features` says so)."""

    dir: Path | None = None  # folder for features of samples, which later runs find again; none: memory only
    memory_gb: float = 4.0  # GiB of memory per process for what is not in `dir`

    def __post_init__(self) -> None:
        require_nonnegative(self, "memory_gb")


@dataclass(frozen=True)
class EvaluationConfig:
    """When held-out data is evaluated during training, and what that decides."""

    every_steps: int | None = None  # optimizer steps between two evaluations
    every_epochs: int | None = 1  # epochs between two evaluations, besides
    max_batches: int | None = None  # none: all of the held-out data
    metric: str = "eval/loss"  # decides which checkpoint is best, and early stopping
    mode: str = "min"  # min | max
    patience: int | None = None  # evaluations without improvement after which training stops; none: never
    min_delta: float = 0.0  # smaller changes of the metric are no improvement
    background: BackgroundEvaluationConfig = field(default_factory=BackgroundEvaluationConfig)

    def __post_init__(self) -> None:
        require_positive(self, "every_steps", "every_epochs", "max_batches", "patience")
        require_choice(self, "mode", ("min", "max"))
        require_nonnegative(self, "min_delta")


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written (also at the end, and on SIGTERM or SIGINT) and which are kept."""

    every_steps: int | None = None  # optimizer steps between two checkpoints
    every_epochs: int | None = 1  # epochs between two checkpoints, besides
    keep_last: int = 2  # newest checkpoints that are kept
    keep_best: bool = True  # keep the one with the best evaluation.metric, besides
    asynchronous: bool = True  # write in the background, from a copy in the main process's memory
    rehearse: bool = True  # try a save before the first step: is there room, is it allowed?

    def __post_init__(self) -> None:
        require_positive(self, "every_steps", "every_epochs", "keep_last")


@dataclass(frozen=True)
class PretrainConfig:
    """A training run: `model` learns from `dataset` as `stage` says."""

    model: ModelConfig = field(default_factory=VGGTTinyConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)  # by default one for models of this kind
    stage: Stage = Stage.ALIGN
    run_id: str | None = None  # the run's folder; none: <model>+<dataset>+<stage>+x<seed>; published: nanoVLM's names
    run_root_dir: Path = Path("runs")  # folder of all runs
    pretrained_checkpoint: Path | None = None  # a run or checkpoint folder to take the weights from (earlier stage)
    resume: str | None = None  # auto (the run's newest checkpoint, if any) | a checkpoint folder
    seed: int = 7  # of new weights, the order of samples, and noise
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda
    deterministic: bool = False  # deterministic kernels, or an error where there is none
    log_every_steps: int | None = 10  # optimizer steps between two log lines and entries of metrics.jsonl
    log_every_epochs: int | None = None  # the same in epochs
    peak_tflops: float | None = None  # of a device in bf16, for the MFU; none: known for common GPUs
    trackers: tuple[str, ...] = ("jsonl", "tensorboard")  # jsonl (always), tensorboard, wandb, prismatic (its files)
    wandb_project: str = "vla"  # Weights & Biases: project
    wandb_entity: str | None = None  # Weights & Biases: user or team; none: the default one
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    feature_cache: FeatureCacheConfig = field(default_factory=FeatureCacheConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    override_contract: tuple[str, ...] = ()  # fields (dotted names) in which checkpoint and data may differ, each named
    report: bool = True  # write report.html at the end
    dry_run: bool = False  # print the plan (parameters, steps, memory) and stop; allocates nothing
    world_size: int | None = None  # dry run: number of processes to plan for; none: those of the launcher

    @classmethod
    def dependent_default(cls, name: str, default: Any, fields: dict[str, Any]) -> Any:
        """The value of a field that nobody sets, given the `fields` before it as plain values: data that the chosen
        model learns from.
        """
        if name != "dataset":
            return default
        task = ModelConfig.get_choice_class(fields["model"]["type"]).task
        return default if type(default).task == task else default_dataset(task)

    def __post_init__(self) -> None:
        if type(self.dataset) is DatasetConfig:
            object.__setattr__(self, "dataset", default_dataset(type(self.model).task))
        require_positive(self, "log_every_steps", "log_every_epochs", "peak_tflops", "world_size")
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        for tracker in self.trackers:
            require("trackers", tracker in TRACKERS, f"must be of {', '.join(TRACKERS)}", tracker)
        if getattr(self.model.processor, "augmentation", False):
            rule = "must be none with model.processor.augmentation: what is seen differs in every epoch"
            require("feature_cache.dir", self.feature_cache.dir is None, rule, str(self.feature_cache.dir))
        stage = self.stage_config
        require(
            f"model.{self.stage.field_name}.trainable", bool(stage.trainable), "must name module groups to train",
            stage.trainable,
        )  # fmt: skip
        model_task, dataset_task = type(self.model).task, type(self.dataset).task
        require("dataset.type", model_task == dataset_task, f"must be a dataset for {model_task} models", dataset_task)
        every, rule = self.evaluation.background.every_steps, f"is for vision-language models, not {model_task} models"
        require("evaluation.background.every_steps", every is None or model_task in ("language", "vqa"), rule, every)

    @property
    def stage_config(self) -> StageConfig:
        """Hyper-parameters of the stage that runs."""
        return self.model.stage(self.stage)

    @property
    def resolved_run_id(self) -> str:
        """`run_id`, or the name made of model, dataset, stage and seed."""
        model, dataset = type(self.model).model_id, type(self.dataset).dataset_id
        return self.run_id or f"{model}+{dataset}+{self.stage.value}+x{self.seed}"

    @property
    def run_dir(self) -> Path:
        """The folder that the run writes to."""
        return self.run_root_dir / self.resolved_run_id
