"""One process, DDP and FSDP agree however the global batch is cut, and go on where another of them stopped."""

from pathlib import Path

import pytest
import toys
from comparison import assert_agree
from workers import STRATEGIES, agreement_cases, agreement_config, agreement_data, skip_unless_it_runs

from vla.training.checkpoint_store import CheckpointStore

CASES = agreement_cases()
METRICS = {"train/loss", "train/grad_norm", "train/action_l1", "eval/loss", "eval/l1_x_m"}


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    """A folder with runs of this process alone, by loss reduction, and with those of two processes."""
    folder = tmp_path_factory.mktemp("runs")
    for reduction, size in (("global", 8), ("microbatch", 2)):
        stage = {"per_device_batch_size": size, "loss_reduction": reduction}
        config = agreement_config(folder, f"single {reduction}", "ddp", stage)
        toys.toy_strategy(config, datasets=agreement_data(reduction)).run_training()
    run_workers("train_agreement_cases+go_on_as_two", folder)
    return folder


def assert_same(run_dir: Path, reference: Path, since: int = 0) -> None:
    assert assert_agree(run_dir, reference, METRICS, tolerance=1e-6, since=since) > 0


@pytest.mark.parametrize("name", CASES)
def test_same_numbers(name, root):
    skip_unless_it_runs(name)
    reference = root / ("single-microbatch" if "microbatch" in name else "single-global")
    assert_same(agreement_config(root, name, *CASES[name]).run_dir, reference)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_go_on_for_one(strategy, root):
    skip_unless_it_runs(strategy)
    assert_same(agreement_config(root, f"{strategy} goes on", strategy, {}).run_dir, root / "single-global", since=3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_process_goes_on_for_two(strategy, root, tmp_path):
    skip_unless_it_runs(strategy)
    stopped = agreement_config(root, f"{strategy} accumulation 2", strategy, {}).run_dir
    config = agreement_config(tmp_path, "alone", "ddp", {"per_device_batch_size": 8})
    data = agreement_data("")
    toys.toy_strategy(config, datasets=data, resume_from=CheckpointStore(stopped).path(3)).run_training()
    assert_same(config.run_dir, root / "single-global", since=3)
