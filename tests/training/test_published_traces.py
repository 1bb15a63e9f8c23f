"""Runs of the real loop against what the published one gives: losses, norms, learning rates, metrics files, weights."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import jsonlines
import pytest
import torch
from golden_runs import SEED, TRACE, golden_config, train, train_as_published
from torch.utils.data import DistributedSampler

from vla.overwatch.distributed import DistState
from vla.training import pretrain

TOLERANCE = 1e-5
SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/split_modality_sampler.py"


def close(values: list[float]) -> object:
    return pytest.approx(values, rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("run", TRACE["runs"], ids=lambda run: run["stage"])
def test_recorded_trace(run, tmp_path):
    config = golden_config(tmp_path, run)
    strategy, found = train(config)
    assert strategy.state.total_steps == run["planned_steps"]
    groups = [len(group["params"]) for group in strategy.optimizer.param_groups if group["weight_decay"]]
    others = [len(group["params"]) for group in strategy.optimizer.param_groups if not group["weight_decay"]]
    assert (sum(groups), sum(others)) == (run["n_decay_tensors"], run["n_no_decay_tensors"])
    assert found["losses"] == close(run["micro_losses"]) and found["norms"] == close(run["grad_norms_before_clip"])
    with jsonlines.open(config.run_dir / "golden.jsonl") as lines:
        written = list(lines)
    for ours, theirs in zip(written, run["jsonl"], strict=True):
        assert {key: value for key, value in ours.items() if "Time" not in key} == close(theirs)
    weights = strategy.model.state_dict()
    assert weights.keys() == run["final_param_sum_and_abs_sum"].keys()
    for name, sums in run["final_param_sum_and_abs_sum"].items():
        value = weights[name].double()
        assert [value.sum().item(), value.abs().sum().item()] == close(sums), name


RUNS = {
    "align": {
        "stage": "align", "epochs": 2, "max_steps": None, "global_batch_size": 4, "weight_decay": 0.0,
        "warmup_ratio": 0.25,
    },
    "finetune": {
        "stage": "finetune", "epochs": 2, "max_steps": None, "global_batch_size": 8, "weight_decay": 0.1,
        "warmup_ratio": 0.03,
    },
    "full-finetune": {
        "stage": "full-finetune", "epochs": 1, "max_steps": 5, "global_batch_size": 8, "weight_decay": 0.1,
        "warmup_ratio": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_published_loop(name, tmp_path):
    """Accumulation 2 and 4, a short last micro-batch, no warm-up, batches of text alone, a number of steps."""
    common = {"per_device_batch_size": 2, "lr": 2e-3, "max_grad_norm": 1.0, "sampler_seed": SEED, "arch": "gelu-mlp"}
    config = golden_config(tmp_path, RUNS[name] | common)
    strategy, found = train(config)
    other = pretrain.build_strategy(replace(config, run_id="published"), DistState())
    expected = train_as_published(other, order_of(other))
    assert len(expected["norms"]) == strategy.state.total_steps
    for key, values in expected.items():
        assert found[key] == close(values), key
    for key, value in other.model.state_dict().items():
        torch.testing.assert_close(strategy.model.state_dict()[key], value, rtol=0, atol=TOLERANCE, msg=key)


def order_of(strategy):
    """Sample numbers of an epoch, from other code than the toolkit's."""
    dataset, stage = strategy.feed.datasets.train, strategy.stage
    if strategy.config.stage.value == "align":
        sampler = DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True, seed=SEED)
        return lambda epoch: (sampler.set_epoch(epoch), list(sampler))[1]
    spec = importlib.util.spec_from_file_location("benchmark_split_modality_sampler", SCRIPT)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return lambda epoch: benchmark.plain_order(dataset.modality_lengths(), stage.global_batch_size, 1, SEED, epoch)
