"""prism-tiny gives the same numbers in one process and in two, with text-only rows in the batch or apart."""

from pathlib import Path

import pytest
from comparison import assert_agree
from workers import LANGUAGE_CASES, language_config, skip_unless_it_runs

from vla.overwatch.distributed import DistState
from vla.training import pretrain

METRICS = {"train/loss", "train/grad_norm", "train/token_accuracy", "eval/loss", "eval/text_loss", "eval/perplexity"}


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    folder = tmp_path_factory.mktemp("language")
    for batches in ("pure", "mixed"):
        pretrain.train(language_config(folder, f"single {batches}", batches), DistState())
    run_workers("train_language", folder)
    return folder


@pytest.mark.parametrize("name", LANGUAGE_CASES)
def test_same_numbers(root, name):
    strategy, batches, _ = LANGUAGE_CASES[name]
    skip_unless_it_runs(strategy)
    assert assert_agree(root / name.replace(" ", "-"), root / f"single-{batches}", METRICS) > 6
