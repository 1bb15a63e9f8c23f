"""The tiny OpenVLA and OFT, augmented images, adapters and noise included: one process, DDP and FSDP agree."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import toys
from openvla_runs import OPENVLA_CASES, OPENVLA_MODELS, openvla_config
from workers import STRATEGIES, skip_unless_it_runs

from vla.conf.datasets import LiberoMiniConfig
from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore

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
    run_workers("train_openvla", folder, timeout=900)
    return folder


@pytest.mark.parametrize("name", OPENVLA_CASES)
def test_same_numbers(root, name):
    kind, strategy, _ = OPENVLA_CASES[name]
    skip_unless_it_runs(strategy)
    found, expected = root / name.replace(" ", "-"), root / f"single-{kind}"
    ours, theirs = toys.metrics(found), toys.metrics(expected)
    assert len(ours) == len(theirs) == 4
    for left, right in zip(ours, theirs, strict=True):
        for key in METRICS & right.keys():
            assert left[key] == pytest.approx(right[key], rel=1e-5, abs=1e-5), key
    left, right = (CheckpointStore(folder).newest() for folder in (found, expected))
    for path in (right / "model").iterdir():
        weights, reference = read_tensors(left / "model" / path.name), read_tensors(path)
        assert weights.keys() == reference.keys()
        for key, value in reference.items():
            assert (weights[key] - value).abs().max() < 2e-5, key
