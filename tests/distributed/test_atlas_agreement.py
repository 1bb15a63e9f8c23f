"""AtlasVLA on LIBERO demonstrations: one process, DDP and FSDP give the same losses and weights."""

from pathlib import Path

import pytest
import torch
import toys
from workers import ATLAS_CASES, atlas_config, skip_unless_it_runs

from vla.conf.datasets import LiberoMiniConfig
from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore

pytestmark = pytest.mark.skipif(not list(LiberoMiniConfig().root.glob("*_demo.hdf5")), reason="libero-mini is not here")


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    folder = tmp_path_factory.mktemp("atlas")
    pretrain.train(atlas_config(folder, "single"), DistState())
    run_workers("train_atlas", folder, timeout=300)
    return folder


@pytest.mark.parametrize("name", ATLAS_CASES)
def test_same_numbers(root, name):
    skip_unless_it_runs(name)
    ours, theirs = (toys.metrics(root / folder) for folder in (name.replace(" ", "-"), "single"))
    assert len(ours) == len(theirs) > 3
    for left, right in zip(ours, theirs, strict=True):
        for key in {"train/loss", "train/pose_loss", "eval/loss", "eval/action_l1"} & right.keys():
            assert left[key] == pytest.approx(right[key], rel=0, abs=1e-5), key
    stores = [CheckpointStore(root / folder) for folder in (name.replace(" ", "-"), "single")]
    left, right = (store.newest() for store in stores)
    for path in (right / "model").iterdir():
        ours, theirs = read_tensors(left / "model" / path.name), read_tensors(path)
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            torch.testing.assert_close(ours[key], value, rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")
