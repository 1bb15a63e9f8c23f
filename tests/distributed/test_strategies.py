"""What strategies of 2 processes do besides agreeing: resume, reshard, mixed precision, one reduction per step."""

import math
from pathlib import Path

import pytest
import torch
import toys
from workers import RESUMED, STRATEGIES, resume_config, skip_unless_it_runs

from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore

WORK = "resume+precisions+mixed_unit+count_synchronisations+count_reductions+average_weights"


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    folder = tmp_path_factory.mktemp("strategies")
    run_workers(WORK, folder)
    return folder


@pytest.mark.parametrize("strategy", RESUMED)
def test_resume_is_exact(root, strategy):
    skip_unless_it_runs(strategy)
    toys.assert_same_run(
        resume_config(root, "straight", strategy).run_dir, resume_config(root, "broken", strategy).run_dir, 12
    )


@pytest.mark.parametrize("strategy", RESUMED)
def test_checkpoints_of_all_strategies_are_alike(root, strategy):
    """Same files with the same keys as one process writes, so that any strategy reads them."""
    skip_unless_it_runs(strategy)
    alone = toys.resumable_config(root / f"alone-{strategy}")
    toys.toy_strategy(alone).run_training()
    two = resume_config(root, "straight", strategy)
    for name in ("model/fusion.safetensors", "trainer/optimizer.safetensors"):
        ours = read_tensors(CheckpointStore(two.run_dir).path(12) / name)
        theirs = read_tensors(CheckpointStore(alone.run_dir).path(12) / name)
        assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_mixed_precision(root, strategy, precision):
    skip_unless_it_runs(strategy)
    lines = toys.metrics(root / f"{strategy}-{precision}")
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert len(losses) == 8 and all(map(math.isfinite, losses)) and losses[-1] < 0.6 * losses[0]
    if precision == "fp16":
        assert lines[0]["train/loss_scale"] >= 1024


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_partly_frozen_unit(root, strategy):
    skip_unless_it_runs(strategy)
    weights = read_tensors(CheckpointStore(root / f"mixed-{strategy}").path(8) / "model/fusion.safetensors")
    start = dict(toys.toy_model(toys.toy_config(root / "unused")).named_parameters())
    assert torch.equal(weights["fusion.0.0.weight"], start["fusion.0.0.weight"])
    assert not torch.equal(weights["fusion.0.0.bias"], start["fusion.0.0.bias"])
    reference = read_tensors(CheckpointStore(root / "mixed-ddp").path(8) / "model/fusion.safetensors")
    for name, value in reference.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-6)


def test_one_reduction_per_step(root):
    for rank in range(2):
        assert (root / f"count-{rank}").read_text() == "8"


def test_one_reduction_per_step_and_unit(root):
    """8 steps; two units of the fusion and the root train."""
    skip_unless_it_runs("fsdp-full-shard")
    for rank in range(2):
        assert (root / f"count-fsdp-{rank}").read_text() == str(8 * 3)


def test_example_strategy_averages(root):
    ours, theirs = read_tensors(root / "local-0"), read_tensors(root / "local-1")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    saved = read_tensors(CheckpointStore(root / "local").path(8) / "model/fusion.safetensors")
    assert all(torch.allclose(ours[name], saved[name]) for name in saved)
    losses = [line["train/loss"] for line in toys.metrics(root / "local") if "train/loss" in line]
    assert losses[-1] < 0.5 * losses[0]


def test_fsdp_runs_as_a_single_process(tmp_path, run_workers):
    skip_unless_it_runs("fsdp-full-shard")
    run_workers("mixed_unit", tmp_path, world_size=1)
    for strategy in STRATEGIES:
        assert CheckpointStore(tmp_path / f"mixed-{strategy}").newest().name == "step-000008"
