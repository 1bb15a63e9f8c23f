"""One process, DDP and FSDP give the same losses and weights, however the global batch is cut."""

import json
from pathlib import Path

import pytest
import torch
import toys
from workers import agreement_cases, agreement_config, agreement_data

from vla.training.checkpoint_files import read_tensors

CASES = agreement_cases()


def metrics(run_dir: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    files = sorted((run_dir / "checkpoints").glob("step-000008/model/*.safetensors"))
    return {name: value for path in files for name, value in read_tensors(path).items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, run_workers) -> Path:
    """A folder with the runs of all cases by 2 processes."""
    root = tmp_path_factory.mktemp("two")
    run_workers("train_agreement_cases", root)
    return root


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> dict[str, Path]:
    """Folders of the same runs by this process alone, by loss reduction."""
    root = tmp_path_factory.mktemp("one")
    folders = {}
    for reduction, size in (("global", 8), ("microbatch", 2)):
        config = toys.toy_config(root / reduction, per_device_batch_size=size, loss_reduction=reduction)
        toys.toy_strategy(config, datasets=agreement_data(reduction)).run_training()
        folders[reduction] = config.run_dir
    return folders


@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name, runs, single):
    run_dir = agreement_config(runs, name, *CASES[name]).run_dir
    reference = single["microbatch" if "microbatch" in name else "global"]
    for metric in ("train/loss", "train/grad_norm", "train/action_l1", "eval/loss", "eval/l1_x_m"):
        ours, theirs = metrics(run_dir, metric), metrics(reference, metric)
        assert len(ours) == len(theirs) > 0
        assert ours == pytest.approx(theirs, abs=1e-6, rel=1e-6), metric
    ours, theirs = weights(run_dir), weights(reference)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=1e-6, msg=key)
