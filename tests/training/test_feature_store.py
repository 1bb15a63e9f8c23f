"""Features kept in files: found again, never stale, never half."""

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import metrics, toy_config, toy_datasets, toy_strategy

from vla.conf.pretrain import FeatureCacheConfig
from vla.errors import UserError
from vla.training.feature_store import FeatureStore, Place, fingerprint

ROW = {"tokens": torch.arange(6.0).reshape(2, 3).half(), "pose": torch.ones(9)}


def make_store(folder, length: int = 4, episode: str = "e") -> FeatureStore:
    """A store whose samples are those of one episode after the other, `length` each."""
    return FeatureStore(folder, lambda sample: Place(f"{episode}{sample // length}", sample % length, length), ROW)


def test_rows_come_back_as_they_were(tmp_path):
    store = make_store(tmp_path)
    assert 6 not in store
    store.put(6, ROW)
    again = make_store(tmp_path)
    assert 6 in again and 2 not in again and 5 not in again
    for name, value in again.get(6).items():
        assert torch.equal(value, ROW[name]) and value.dtype == ROW[name].dtype


def test_an_episode_is_found_wherever_its_samples_are(tmp_path):
    make_store(tmp_path).put(6, ROW)  # row 2 of episode e1
    moved = FeatureStore(tmp_path, lambda sample: Place("e1", sample - 100, 4), ROW)
    assert 102 in moved and 101 not in moved


def test_what_has_no_checksum_is_not_there(tmp_path):
    store = make_store(tmp_path)
    store.put(0, ROW)
    store._open["e0"]["tokens"][1] = 7.0  # a process killed before the checksum
    assert 1 not in make_store(tmp_path)


def test_a_damaged_row_is_told_and_written_again(tmp_path, capsys):
    """As when a machine loses its power: the checksum has reached the disk, the row hasn't."""
    make_store(tmp_path).put(0, ROW)
    file = next(tmp_path.glob("e0.tokens.npy"))
    content = file.read_bytes()
    start = len(content) - 4 * ROW["tokens"].numel() * 2  # of four rows
    file.write_bytes(content[:start] + b"\0" * (len(content) - start))
    store = make_store(tmp_path)
    assert 0 not in store and "e0[0] is damaged; such rows are computed again" in capsys.readouterr().err
    store.put(0, ROW)
    assert 0 in store and 0 in make_store(tmp_path) and torch.equal(store.get(0)["tokens"], ROW["tokens"])


def test_more_episodes_than_a_process_may_have_open_files(tmp_path):
    """As with pictures, each of which is an episode of one row."""
    open_files = Path("/proc/self/fd")
    if not open_files.is_dir():
        pytest.skip("open files are only counted on Linux")
    store, before = make_store(tmp_path, length=1), len(list(open_files.iterdir()))
    for sample in range(40):
        store.put(sample, ROW)
    assert len(list(open_files.iterdir())) - before < 10
    assert all(torch.equal(make_store(tmp_path, length=1).get(39)[name], value) for name, value in ROW.items())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room can't be asked for")
def test_a_full_disk_keeps_no_features_and_ends_no_run(tmp_path, monkeypatch, capsys):
    """A mapping of a file that the disk has no room for would kill the process when it is written to."""
    old, limits = make_store(tmp_path, episode="old"), resource.getrlimit(resource.RLIMIT_FSIZE)
    old.put(0, ROW)
    asked = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *arguments: asked.append(arguments[2]))
    make_store(tmp_path, episode="asks").put(0, ROW)
    assert min(asked) > 0 and len(asked) == 3  # each of its files
    monkeypatch.undo()
    store, there = make_store(tmp_path), sorted(tmp_path.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        for sample in (0, 1, 6):
            assert sample not in store
            store.put(sample, ROW)
            assert sample not in store
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err.count("what isn't kept is computed each time") == 1
    assert sorted(tmp_path.iterdir()) == there and 0 in make_store(tmp_path, episode="old")


def test_two_processes_may_fill_it(tmp_path):
    first, second = make_store(tmp_path), make_store(tmp_path)
    first.put(0, ROW)
    second.put(3, ROW)
    assert 3 in first and 0 in second
    assert not list(tmp_path.glob("*.writing*"))


def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    make_store(tmp_path / "s").put(0, ROW)
    with pytest.raises(UserError, match="feature_cache.dir: .* can't be used: .* delete it"):
        assert 0 in make_store(tmp_path / "s", length=5)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="feature_cache.dir: .* can't be used"):
        make_store(tmp_path / "file")


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
    data.train.locate = lambda sample: Place(f"train-{data_version}", sample, 28)
    data.validation.locate = lambda sample: Place(f"held-out-{data_version}", sample, 10)
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


def test_images_are_read_until_all_features_are_there(tmp_path):
    datasets = []
    for _ in range(2):
        data = toy_datasets()
        data.train.locate, data.train.images_needed = (lambda sample: Place("train", sample, 28)), True
        cache = FeatureCacheConfig(dir=tmp_path / "features")
        config = replace(toy_config(tmp_path / str(len(datasets))), feature_cache=cache)
        strategy = toy_strategy(config, datasets=data)
        datasets.append(data.train)
        assert data.train.images_needed == (len(datasets) == 1)
        strategy.run_training()
