"""uniad-tiny through the one loop: an exact resume, kept features, early stopping, and the learning-rate range test."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toys import assert_same_run, metrics, stopped_at

sys.path.append(str(Path(__file__).parents[1] / "distributed"))
from uniad_runs import render, uniad_config

from vla.conf.lr_range_test import LRRangeTestConfig
from vla.conf.models.anomaly_parts import CriterionConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, FeatureCacheConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.conf.strategies import DDPConfig
from vla.overwatch.distributed import DistState
from vla.training import lr_range_test, pretrain


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("pictures"))


def config(run_dir: Path, data: Path, stage: Stage = Stage.ALIGN, cache: bool = True, **values) -> PretrainConfig:
    found = uniad_config(run_dir.parent, run_dir.name, DDPConfig(), stage, 2, cache)
    net = (*found.model.net[:2], replace(found.model.net[2], dropout=0.1))
    model = replace(found.model, net=net, criterion=(CriterionConfig(), CriterionConfig("cosine", 0.5)))
    return replace(found, model=model, dataset=replace(found.dataset, root=data), **values)


@pytest.mark.parametrize("stage", [Stage.ALIGN, Stage.FULL_FINETUNE])
def test_resume_is_exact(tmp_path, data, stage):
    """Stopped in the middle of an epoch, with dropout, noise, and a worker process."""
    values = {"checkpoint": CheckpointConfig(every_steps=1, keep_last=9), "loader": LoaderConfig(num_workers=1)}
    assert pretrain.train(config(tmp_path / "straight", data, stage, **values), DistState()).global_step == 6
    with stopped_at(4):
        pretrain.train(config(tmp_path / "broken", data, stage, **values), DistState())
    resumed = config(tmp_path / "broken", data, stage, resume="auto", **values)
    assert pretrain.train(resumed, DistState()).global_step == 6
    assert_same_run(tmp_path / "straight", tmp_path / "broken", 6)


def test_kept_features_change_nothing_and_are_found_again(tmp_path, data):
    disk = {"feature_cache": FeatureCacheConfig(dir=tmp_path / "features")}
    runs = {"none": (False, {}), "memory": (True, {}), "disk": (True, disk), "disk-again": (True, disk)}
    for name, (cache, values) in runs.items():
        built = pretrain.build_strategy(config(tmp_path / name, data, cache=cache, **values), DistState())
        if name == "disk-again":
            assert not built.feed.datasets.train.images_needed  # pictures need not be read any more
        built.run_training()
        assert built.features.num_computed == {"none": 0, "disk-again": 0}.get(name, built.features.num_computed)
    expected = metrics(tmp_path / "none")
    for name in ("memory", "disk", "disk-again"):
        for left, right in zip(metrics(tmp_path / name), expected, strict=True):
            for key in right.keys() & {"train/loss", "train/cosine", "eval/loss", "eval/cosine"}:
                assert left[key] == pytest.approx(right[key], rel=1e-5), key


def test_features_of_turned_pictures_are_not_kept(tmp_path, data):
    turned = config(tmp_path / "run", data)
    turned = replace(turned, dataset=replace(turned.dataset, hflip=True))
    assert not pretrain.build_strategy(turned, DistState()).features.sources


def test_early_stopping_by_a_metric_of_pixels(tmp_path, data):
    evaluation = EvaluationConfig(metric="eval/pixel_auroc", mode="max", patience=1, min_delta=1.0)
    result = pretrain.train(config(tmp_path / "run", data, evaluation=evaluation), DistState())
    assert result.reason == "early stopping" and result.global_step == 6
    assert result.best_value is not None


def test_learning_rate_range_test(tmp_path, data):
    run = config(tmp_path / "run", data)
    fields = {name: getattr(run, name) for name in run.__dataclass_fields__}
    drawn = []
    test = LRRangeTestConfig(**fields, range_steps=4)
    assert lr_range_test.run(test, lambda *values: drawn.append(values)) == 0
    found = json.loads(next(tmp_path.glob("*lr-range-test/lr_range_test.json")).read_text())
    assert len(found["losses"]) >= 2 and drawn
