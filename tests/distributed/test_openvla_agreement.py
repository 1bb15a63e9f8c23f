"""The tiny OpenVLA and OFT, augmented images, adapters and noise included: one process, DDP and FSDP agree."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from comparison import assert_agree
from openvla_runs import OPENVLA_CASES, OPENVLA_MODELS, openvla_config
from workers import STRATEGIES, skip_unless_it_runs

from vla.conf.datasets import LiberoMiniConfig
from vla.overwatch.distributed import DistState
from vla.training import pretrain

pytestmark = [
    pytest.mark.skipif(not list(LiberoMiniConfig().root.glob("*_demo.hdf5")), reason="libero-mini is not here"),
    pytest.mark.skipif(find_spec("peft") is None, reason="needs the lora extra"),
]
METRICS = {"train/loss", "train/grad_norm", "train/action_accuracy", "train/action_l1", "eval/loss", "eval/action_l1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    folder = tmp_path_factory.mktemp("openvla")
    for kind in OPENVLA_MODELS:
        pretrain.train(openvla_config(folder, f"single {kind}", kind, STRATEGIES["ddp"]), DistState())
    run_workers("train_openvla", folder)
    return folder


@pytest.mark.parametrize("name", OPENVLA_CASES)
def test_same_numbers(root, name):
    kind, strategy, _ = OPENVLA_CASES[name]
    skip_unless_it_runs(strategy)
    assert assert_agree(root / name.replace(" ", "-"), root / f"single-{kind}", METRICS, weights=2e-5) == 4
