"""prism-tiny gives the same numbers in one process and in two, with text-only rows in the batch or apart."""

from pathlib import Path

import pytest
import torch
import toys
from workers import LANGUAGE_CASES, language_config, skip_unless_it_runs

from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore

METRICS = {"train/loss", "train/grad_norm", "train/token_accuracy", "eval/loss", "eval/text_loss", "eval/perplexity"}


@pytest.fixture(scope="module")
def root(tmp_path_factory, run_workers) -> Path:
    folder = tmp_path_factory.mktemp("language")
    for batches in ("pure", "mixed"):
        pretrain.train(language_config(folder, f"single {batches}", batches), DistState())
    run_workers("train_language", folder, timeout=400)
    return folder


@pytest.mark.parametrize("name", LANGUAGE_CASES)
def test_same_numbers(root, name):
    strategy, batches, _ = LANGUAGE_CASES[name]
    skip_unless_it_runs(strategy)
    found, expected = root / name.replace(" ", "-"), root / f"single-{batches}"
    ours, theirs = toys.metrics(found), toys.metrics(expected)
    assert len(ours) == len(theirs) > 6
    for left, right in zip(ours, theirs, strict=True):
        for key in METRICS & right.keys():
            assert left[key] == pytest.approx(right[key], rel=1e-5, abs=1e-5), key
    left, right = (CheckpointStore(folder).newest() for folder in (found, expected))
    for path in (right / "model").iterdir():
        weights, reference = read_tensors(left / "model" / path.name), read_tensors(path)
        assert weights.keys() == reference.keys()
        for key, value in reference.items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-5, msg=key)
