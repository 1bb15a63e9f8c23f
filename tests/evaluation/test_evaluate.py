"""Open-loop evaluation: files, frames the right way up, and numbers that mean what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vla.batches import ActionBatch
from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.data.materialize import Datasets, get_datasets
from vla.models.base import BaseModel, FeatureSource, ModelOutput
from vla.training.evaluate_actions import evaluate_run, print_metrics
from vla.training.tasks.base import TaskOutput

MINI = LiberoMiniConfig()
pytestmark = pytest.mark.skipif(not list(MINI.root.glob("*.hdf5")), reason="libero-mini is not here")


class Oracle(BaseModel):
    """Predicts what was demonstrated, or its opposite."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = sign
        self.num_batches = 0

    def feature_sources(self) -> dict[str, FeatureSource]:
        return {}

    def module_groups(self) -> dict[str, torch.nn.Module]:
        return {}

    def forward(self, batch: ActionBatch) -> ModelOutput:
        self.num_batches += 1
        assert not self.training
        return ModelOutput()

    def predict(self, batch: ActionBatch) -> torch.Tensor:
        return self.sign * batch.actions


class PlainTask:
    """Leaves images alone; every sample costs 2."""

    def weigh(self, batch: ActionBatch) -> torch.Tensor:
        return torch.tensor(float(len(batch)))

    def prepare(self, batch: ActionBatch, device: str) -> ActionBatch:
        return batch

    def loss(self, output: ModelOutput, batch: ActionBatch) -> TaskOutput:
        return TaskOutput(2 * self.weigh(batch))


@pytest.fixture(scope="module")
def datasets() -> Datasets:
    task = sorted(MINI.root.glob("*_demo.hdf5"))[0].name.removesuffix("_demo.hdf5")
    return get_datasets(LiberoMiniConfig(tasks=(task,), max_episodes_per_task=2), VGGTTinyConfig())


def _evaluate(datasets: Datasets, run_dir: Path, sign: float = 1.0, **options: int) -> dict:
    model = Oracle(sign).train()
    metrics = evaluate_run(model, datasets.processor, datasets, PlainTask(), run_dir, "cpu", **options)
    assert model.training  # as it was
    return metrics


def test_an_oracle_makes_no_error(datasets: Datasets, tmp_path: Path) -> None:
    metrics = _evaluate(datasets, tmp_path)
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text()) == metrics
    assert metrics["num_actions"] == len(datasets.validation) and metrics["num_episodes"] == 1
    assert metrics["loss"] == 2 and metrics["gripper_accuracy"] == 1
    assert metrics["translation_l1"] == 0 and 1 < metrics["translation_l1_baseline"] < 50  # of at most 50 mm per step
    print_metrics(metrics)


def test_the_opposite_is_worse_than_the_average(datasets: Datasets, tmp_path: Path) -> None:
    metrics = _evaluate(datasets, tmp_path, sign=-1.0)
    assert metrics["gripper_accuracy"] == 0
    assert metrics["translation_l1"] > metrics["translation_l1_baseline"]


def test_the_stored_episode_is_the_file_s(datasets: Datasets, tmp_path: Path) -> None:
    _evaluate(datasets, tmp_path, batch_size=7)
    with np.load(tmp_path / "evaluation" / "episode.npz", allow_pickle=False) as episode:
        ref, held_out = datasets.validation.episodes[0], datasets.validation
        stored = held_out.episode_actions(0)
        millimetres = stored[:, :3] * 50
        # normalisation clips nothing here but what lies outside of the statistics
        inside = np.abs(datasets.processor.normalize_actions(stored)[:, :3]) < 1
        assert len(episode["demonstrated"]) == ref.length
        np.testing.assert_allclose(episode["demonstrated"][:, :3][inside], millimetres[inside], atol=1e-3)
        np.testing.assert_array_equal(episode["demonstrated"][:, 6], stored[:, 6])
        assert str(episode["instruction"]) == ref.instruction and ref.demo in str(episode["label"])
        assert list(episode["units"][:6]) == ["mm"] * 3 + ["°"] * 3
        raw = held_out[int(episode["frame_steps"][-1])]["images"][-2:]
        np.testing.assert_array_equal(episode["frames"][-1], raw[:, :, ::-1, :])  # stored bottom row first
        assert episode["frame_steps"][-1] == ref.length - 1


def test_max_batches_cut_the_evaluation_short(datasets: Datasets, tmp_path: Path) -> None:
    metrics = _evaluate(datasets, tmp_path, batch_size=5, max_batches=2)
    assert metrics["num_actions"] == 10
    with np.load(tmp_path / "evaluation" / "episode.npz") as episode:
        assert len(episode["predicted"]) == 10 and episode["frame_steps"][-1] == 9


def test_nothing_held_out_writes_nothing(datasets: Datasets, tmp_path: Path) -> None:
    alone = Datasets(datasets.train, None, datasets.collator, datasets.processor)
    assert _evaluate(alone, tmp_path) == {} and not list(tmp_path.iterdir())
