"""Baselines beside a run: the same pictures, the same features, one table."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "distributed"))
from uniad_runs import render, uniad_config

from vla.conf.anomaly_baselines import BaselinesConfig
from vla.conf.strategies import DDPConfig
from vla.errors import UserError
from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.anomaly_baselines import run
from vla.training.evaluate import evaluate_checkpoint


def test_comparison(tmp_path, capsys):
    render(tmp_path)
    config = uniad_config(tmp_path, "a-run", DDPConfig())
    pretrain.train(config, DistState())
    metrics = evaluate_checkpoint(config.run_dir, "cpu")
    arguments = BaselinesConfig(config.run_dir, per_class=True, memory_size=50, device="cpu", batch_size=4)
    assert run(arguments) == 0
    folder = config.run_dir / "evaluation/baselines"
    lines = (folder / "comparison.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names == [
        "uniad", "patch-memory", "patch-memory per class", "position-gaussian", "position-gaussian per class",
    ]  # fmt: skip
    assert f" {100 * metrics['pixel_auroc']:.1f} " in lines[2]  # the run's own numbers, found anew
    assert (folder / "patch-memory-per-class.csv").read_text().startswith("class,good,defective,image_auroc_mean")
    assert "position-gaussian" in capsys.readouterr().out


def test_other_models_are_refused(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        run(BaselinesConfig(tmp_path))
    with pytest.raises(ValueError, match="names: must be of patch-memory, position-gaussian, got 'knn'"):
        BaselinesConfig(tmp_path, names=("knn",))
