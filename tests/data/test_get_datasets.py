"""`get_datasets`: a new run's statistics, a checkpoint's Processor, and data sets of third parties."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from libero_files import open_libero

from vla.conf.datasets import DatasetConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.data.datasets.base import Datasets, MapDataset
from vla.data.materialize import get_datasets


@dataclass(frozen=True)
class OtherConfig(DatasetConfig):
    target: ClassVar[str] = "test_get_datasets:OtherData"
    task: ClassVar[str] = "action"


class OtherData:
    calls: ClassVar[list] = []

    @classmethod
    def build(cls, *arguments: Any) -> Datasets:
        cls.calls.append(arguments)
        return "built"


def test_third_party_data_is_built_by_its_target() -> None:
    config, model = OtherConfig(), VGGTTinyConfig()
    assert get_datasets(config, model) == "built"
    assert OtherData.calls == [(config, model, None)]


def test_new_run(libero_root: Path) -> None:
    datasets = open_libero(libero_root, chunk=5, validation_episodes=1)
    assert isinstance(datasets.train, MapDataset)
    assert isinstance(datasets.validation, MapDataset)
    assert datasets.processor.chunk_size == 5
    assert set(datasets.processor.statistics) == {"actions", "proprio"}
    actions = np.concatenate([datasets.train[i]["actions"] for i in range(len(datasets.train))])
    assert np.abs(actions).max() == 1


def test_checkpoints_processor_is_used_as_it_is(libero_root: Path) -> None:
    other = open_libero(libero_root, {"num_frames": 3, "normalization": "bounds"}, chunk=2, tasks=("open_the_drawer",))
    scaled = replace(other.processor.statistics["actions"], max=(100.0,) * 7, min=(-100.0,) * 7)
    processor = replace(other.processor, statistics={**other.processor.statistics, "actions": scaled})
    datasets = open_libero(libero_root, {"num_frames": 1, "normalization": "none"}, chunk=7, processor=processor)
    assert datasets.processor is processor
    sample = datasets.train[0]
    assert sample["images"].shape[0] == 6
    assert sample["actions"].shape == (2, 7)
    assert np.abs(sample["actions"][:, :6]).max() < 0.01


def test_model_without_proprio_needs_no_states(libero_root: Path) -> None:
    assert set(open_libero(libero_root, {"proprio": False}).processor.statistics) == {"actions"}


def test_read_counters(libero_root: Path) -> None:
    train = open_libero(libero_root).train
    train[0]
    assert train.read_counters == {"raw": 2, "hits": 0, "misses": 0, "opened": 1, "cached_bytes": 0}
    train.forget_frames()
    assert train.read_counters["opened"] == 0


@pytest.mark.parametrize("cache", [0, 1])
def test_cache_size_does_not_change_samples(libero_root: Path, cache: int) -> None:
    assert np.array_equal(
        open_libero(libero_root, frame_cache_mb=cache).train[5]["images"], open_libero(libero_root).train[5]["images"]
    )
