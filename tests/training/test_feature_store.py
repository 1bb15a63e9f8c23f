"""Features kept in files: found again, never stale, never half."""

from dataclasses import replace

import pytest
import torch
from toys import metrics, toy_config, toy_datasets, toy_strategy

from vla.conf.pretrain import FeatureCacheConfig
from vla.errors import UserError
from vla.training.feature_store import FeatureStore, fingerprint

ROW = {"tokens": torch.arange(6.0).reshape(2, 3).half(), "pose": torch.ones(9)}


def test_rows_come_back_as_they_were(tmp_path):
    store = FeatureStore(tmp_path / "s", 4, ROW)
    assert 2 not in store and len(store) == 0
    store.put(2, ROW)
    again = FeatureStore(tmp_path / "s", 4, ROW)
    assert 2 in again and 1 not in again and len(again) == 1
    for name, value in again.get(2).items():
        assert torch.equal(value, ROW[name]) and value.dtype == ROW[name].dtype


def test_what_was_not_marked_is_not_there(tmp_path):
    store = FeatureStore(tmp_path / "s", 4, ROW)
    store._arrays["tokens"][1] = 7.0  # a process killed between writing and marking
    assert 1 not in FeatureStore(tmp_path / "s", 4, ROW)


def test_two_processes_may_create_it(tmp_path):
    first, second = FeatureStore(tmp_path / "s", 4, ROW), FeatureStore(tmp_path / "s", 4, ROW)
    first.put(0, ROW)
    second.put(3, ROW)
    assert 3 in first and 0 in second


def test_another_layout_is_refused(tmp_path):
    FeatureStore(tmp_path / "s", 4, ROW)
    with pytest.raises(UserError, match="feature_cache.dir: .* holds other features"):
        FeatureStore(tmp_path / "s", 5, ROW)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="feature_cache.dir: .* can't be used"):
        FeatureStore(tmp_path / "file", 4, ROW)


def test_fingerprint_is_of_the_weights_and_of_all_parts():
    torch.manual_seed(0)
    layer, parts = torch.nn.Linear(2, 2), {"data": "a", "settings": "b"}
    first = fingerprint(parts, layer)
    assert fingerprint(dict(reversed(parts.items())), layer) == first
    assert fingerprint({**parts, "data": "c"}, layer) != first
    layer.weight.data[0, 0] += 1e-7
    assert fingerprint(parts, layer) != first


def run(tmp_path, name: str, folder: str | None = "features", data_version: str = "1"):
    """A short training run; its losses, and how often the vision backbone was called."""
    data = toy_datasets()
    for number, split in enumerate((data.train, data.validation)):
        split.fingerprint = f"split-{number}-{data_version}"
    cache = FeatureCacheConfig(dir=tmp_path / folder if folder else None)
    config = replace(toy_config(tmp_path / name), feature_cache=cache)
    strategy = toy_strategy(config, datasets=data)
    strategy.run_training()
    return [line["train/loss"] for line in metrics(config.run_dir) if "train/loss" in line], strategy.model.calls[
        "vision"
    ]


def test_a_second_run_computes_nothing_and_learns_the_same(tmp_path):
    losses, calls = run(tmp_path, "memory", folder=None)
    first, first_calls = run(tmp_path, "first")
    second, second_calls = run(tmp_path, "second")
    assert first == second == losses
    assert first_calls == calls and second_calls == 1  # one, to see what features look like


def test_other_data_is_computed_anew(tmp_path):
    _, calls = run(tmp_path, "first")
    assert run(tmp_path, "second", data_version="2")[1] == calls
