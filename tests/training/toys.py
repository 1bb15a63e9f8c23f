"""A model, a dataset and runs of them that are small enough to train a few steps in no time."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vla.batches import ActionBatch
from vla.conf.datasets import DatasetConfig
from vla.conf.models import ModelConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import ScheduleConfig, StageConfig
from vla.data.collators import ActionCollator
from vla.data.datasets.base import Datasets
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.models.base import BaseModel, FeatureSource, ModelOutput
from vla.overwatch.distributed import DistState
from vla.training import checkpoint_files
from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore
from vla.training.materialize import get_task, get_train_strategy
from vla.training.metrics import MEASURED
from vla.training.state import TrainerState
from vla.training.strategies.base_strategy import TrainStrategy

checkpoint_files.flush = lambda path: None  # a busy disk would make the tests wait

SIZE, CHUNK, ACTIONS, WIDTH = 8, 3, 7, 16
STAGE = StageConfig(
    trainable=("fusion", "action_head"), epochs=2, global_batch_size=8, per_device_batch_size=4, learning_rate=1e-2,
    precision="fp32", schedule=ScheduleConfig(name="cosine", warmup_steps=2),
)  # fmt: skip


@ModelConfig.register_subclass("toy")
@dataclass(frozen=True)
class ToyConfig(ModelConfig):
    model_id: ClassVar[str] = "toy"
    task: ClassVar[str] = "action"
    target: ClassVar[str] = "toys:ToyModel"
    module_groups: ClassVar[tuple[str, ...]] = ("vision_backbone", "llm_backbone", "fusion", "action_head")

    pretrained: bool = False
    dropout: float = 0.0
    processor: ProcessorConfig = field(
        default_factory=lambda: ProcessorConfig(image_size=SIZE, cameras=("agentview",), orientation="raw")
    )
    align: StageConfig = field(default_factory=lambda: STAGE)
    finetune: StageConfig = field(default_factory=lambda: replace(STAGE, trainable=ToyConfig.module_groups))

    @property
    def chunk_size(self) -> int:
        return CHUNK


@DatasetConfig.register_subclass("toy-data")
@dataclass(frozen=True)
class ToyDataConfig(DatasetConfig):
    dataset_id: ClassVar[str] = "toy-data"
    task: ClassVar[str] = "action"


class ToyDataset:
    """Actions that depend on the image's brightness and the instruction; some run over the episode's end."""

    def __init__(self, length: int, seed: int, masked: Callable[[int], bool] = lambda index: False) -> None:
        generator = np.random.default_rng(seed)
        self.images = generator.integers(0, 256, (length, 1, 3, SIZE, SIZE), dtype=np.uint8)
        self.weights = generator.normal(size=(2, ACTIONS)).astype(np.float32)
        self.masked = masked

    def __len__(self) -> int:
        return len(self.images)

    def sample_label(self, index: int) -> str:
        return f"toy sample {index}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        task = index % 3
        inputs = np.array([self.images[index].mean() / 255, task], dtype=np.float32)
        actions = np.tanh(inputs @ self.weights + np.arange(CHUNK, dtype=np.float32)[:, None] * 0.1)
        length = 0 if self.masked(index) else CHUNK - index % 3
        return {
            "images": self.images[index], "instruction": f"do task {'x' * task}", "actions": actions,
            "action_mask": np.arange(CHUNK) < length,
        }  # fmt: skip


@dataclass
class ToyOutput(ModelOutput):
    step_loss: Tensor | None = None
    step_logs: dict[str, Tensor] = field(default_factory=dict)


class ToyModel(BaseModel):
    """Two backbones, a fusion with dropout, a head; `calls` counts what was computed."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.vision_backbone = nn.Sequential(nn.Flatten(1), nn.Linear(3 * SIZE * SIZE, WIDTH), nn.Tanh())
        self.llm_backbone = nn.Embedding(32, WIDTH)
        self.fusion = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Dropout(config.dropout)) for _ in range(2)
        )
        self.action_head = nn.Linear(WIDTH, CHUNK * ACTIONS)
        self.calls = {"vision": 0, "language": 0}

    def module_groups(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in ToyConfig.module_groups}

    def fsdp_units(self) -> list[nn.Module]:
        return [self.vision_backbone, *self.fusion]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        self.checkpointed = enabled

    def feature_sources(self) -> dict[str, FeatureSource]:
        return {
            "vision_backbone": FeatureSource(lambda batch: batch.sample_ids.tolist(), self.see, settings="toy"),
            "llm_backbone": FeatureSource(lambda batch: list(batch.instructions), self.read, sees_images=False),
        }

    def see(self, batch: ActionBatch) -> dict[str, Tensor]:
        self.calls["vision"] += len(batch)
        return {"vision_backbone.tokens": self.vision_backbone(batch.images[:, 0])}

    def read(self, batch: ActionBatch) -> dict[str, Tensor]:
        self.calls["language"] += len(batch)
        words = torch.tensor([len(text) for text in batch.instructions], device=batch.actions.device)
        return {"llm_backbone.tokens": self.llm_backbone(words)}

    def predict(self, batch: ActionBatch) -> Tensor:
        features = batch.features
        if "vision_backbone.tokens" not in features:
            features = features | self.see(batch)
        if "llm_backbone.tokens" not in features:
            features = features | self.read(batch)
        hidden = features["vision_backbone.tokens"] + features["llm_backbone.tokens"]
        for layer in self.fusion:
            hidden = hidden + layer(hidden)
        return self.action_head(hidden).unflatten(-1, (CHUNK, ACTIONS))

    def forward(self, batch: ActionBatch) -> ToyOutput:
        error = self.predict(batch).float() - batch.actions
        return ToyOutput(step_loss=error.square().mean(-1), step_logs={"action_l1": error.detach().abs().mean(-1)})


def toy_datasets(train: int = 28, validation: int = 10, **options: Any) -> Datasets:
    """28 samples by default: with 8 a step, an epoch has 4 steps and the last of them 4 samples."""
    data = ToyDataset(train, seed=1, **options)
    statistics = ArrayStatistics.of(np.concatenate([data[i]["actions"] for i in range(train)]))
    config = ToyConfig()
    processor = Processor(config.processor, config.chunk_size, {"actions": statistics})
    return Datasets(data, ToyDataset(validation, seed=2) if validation else None, ActionCollator(), processor)


def toy_config(run_dir: Path, model: dict[str, Any] | None = None, **stage: Any) -> PretrainConfig:
    """A run in `run_dir` of the toy model; `stage` overrides fields of its align stage."""
    return PretrainConfig(
        model=ToyConfig(align=replace(STAGE, **stage), **(model or {})), dataset=ToyDataConfig(),
        run_root_dir=run_dir.parent, run_id=run_dir.name, log_every_steps=1, trackers=("jsonl",), device="cpu",
        loader=LoaderConfig(num_workers=0), evaluation=EvaluationConfig(), checkpoint=CheckpointConfig(),
    )  # fmt: skip


def toy_model(config: PretrainConfig) -> ToyModel:
    torch.manual_seed(0)
    model = ToyModel(config.model)
    trainable = config.stage_config.trainable
    model.frozen_groups = frozenset(name for name in config.model.module_groups if name not in trainable)
    for name, module in model.module_groups().items():
        module.requires_grad_(name in trainable)
    return model


def toy_strategy(
    config: PretrainConfig, dist: DistState | None = None, datasets: Datasets | None = None,
    resume_from: Path | None = None,
) -> TrainStrategy:  # fmt: skip
    """A strategy that is set up."""
    datasets = datasets or toy_datasets()
    strategy = get_train_strategy(config, toy_model(config), dist or DistState())
    strategy.run_setup(get_task(config.model, datasets.processor), datasets, resume_from)
    return strategy


def resumable_config(run_dir: Path, workers: int = 0, **stage):
    """A run with dropout, accumulation, averages over 3 steps and evaluations; a checkpoint at every step is kept."""
    config = toy_config(run_dir, {"dropout": 0.3}, epochs=3, per_device_batch_size=2, **stage)
    return replace(
        config, log_every_steps=3, loader=LoaderConfig(num_workers=workers),
        evaluation=EvaluationConfig(every_steps=2), checkpoint=CheckpointConfig(every_steps=1, keep_last=20),
    )  # fmt: skip


def metrics(run_dir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name not in MEASURED and "training_stats/" not in name}
        for line in lines
    ]


@contextmanager
def stopped_at(step: int) -> Iterator[None]:
    """A run inside of this is interrupted, as by Ctrl-C, when `step` steps are done; it has to come that far."""
    advance = TrainerState.advance

    def advance_or_stop(state: TrainerState) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt
        advance(state)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainerState, "advance", advance_or_stop)
        yield


def assert_same_run(left: Path, right: Path, step: int) -> None:
    """Weights, optimizer, generators and metrics are equal to the bit."""
    assert metrics(left) == metrics(right)
    folder = CheckpointStore(left).path(step)
    names = {path.relative_to(folder) for path in folder.rglob("*.safetensors")}
    assert any("rank" in name.name for name in names) and any("optimizer" in name.name for name in names)
    for name in names:
        ours, theirs = read_tensors(folder / name), read_tensors(CheckpointStore(right).path(step) / name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), f"{name}: {key}"


def stop_at(strategy, step: int) -> None:
    """End the process's work after `step`, as a kill would: nothing is saved or closed."""
    advance = strategy.state.advance

    def advance_and_stop() -> None:
        if strategy.state.global_step == step:
            raise KeyboardInterrupt
        advance()

    strategy.state.advance = advance_and_stop
