"""AtlasVLA on LIBERO demonstrations: one process, DDP and FSDP give the same losses and weights."""

from pathlib import Path

import pytest
from comparison import assert_agree
from workers import ATLAS_CASES, atlas_config, skip_unless_it_runs

from vla.conf.datasets import LiberoMiniConfig
from vla.overwatch.distributed import DistState
from vla.training import pretrain

pytestmark = pytest.mark.skipif(not list(LiberoMiniConfig().root.glob("*_demo.hdf5")), reason="libero-mini is not here")
METRICS = {"train/loss", "train/pose_loss", "eval/loss", "eval/action_l1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    folder = tmp_path_factory.mktemp("atlas")
    pretrain.train(atlas_config(folder, "single"), DistState())
    run_workers("train_atlas", folder)
    return folder


@pytest.mark.parametrize("name", ATLAS_CASES)
def test_same_numbers(root, name):
    skip_unless_it_runs(name)
    assert assert_agree(root / name.replace(" ", "-"), root / "single", METRICS) > 3
