"""nanovlm-tiny gives the same numbers in one process and in two, with micro-batches of text alone, too."""

import json
from pathlib import Path

import pytest
from comparison import assert_agree
from nanovlm_runs import nanovlm_config
from workers import NANOVLM_CASES, skip_unless_it_runs

from vla.conf.strategies import DDPConfig
from vla.overwatch.distributed import DistState
from vla.training import pretrain

METRICS = {"train/loss", "train/grad_norm", "train/token_accuracy", "eval/loss", "eval/text_loss", "eval/perplexity"}


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    folder = tmp_path_factory.mktemp("nanovlm")
    for algorithm in ("best-fit", "none"):
        pretrain.train(nanovlm_config(folder, f"single {algorithm}", algorithm, 1, DDPConfig()), DistState())
    run_workers("train_nanovlm", folder)
    return folder


@pytest.mark.parametrize("name", NANOVLM_CASES)
def test_same_numbers(root, name):
    strategy, algorithm = NANOVLM_CASES[name]
    skip_unless_it_runs(strategy)
    assert assert_agree(root / name.replace(" ", "-"), root / f"single-{algorithm}", METRICS) == 8


@pytest.mark.parametrize("name", NANOVLM_CASES)
def test_statistics_have_the_samples_of_all_processes(root, name):
    strategy, algorithm = NANOVLM_CASES[name]
    skip_unless_it_runs(strategy)
    double, single = (
        [json.loads(line) for line in (root / folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (name.replace(" ", "-"), f"single-{algorithm}")
    )
    for ours, theirs in zip(double, single, strict=True):
        for kind in ("avg", "max", "min") if "train/loss" in theirs else ():
            images, tokens = (f"training_stats/{kind}_{what}" for what in ("images_per_sample", "tokens_per_second"))
            assert ours[images] == pytest.approx(theirs[images]) and ours[tokens] > 0
