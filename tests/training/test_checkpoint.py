"""Checkpoint folders: what is in them, which are kept, and what happens to broken ones."""

import json
import pickletools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import ToyConfig, ToyModel, toy_config, toy_model, toy_strategy

from vla.conf import cli
from vla.conf.pretrain import CheckpointConfig, PretrainConfig
from vla.data.processor import Processor
from vla.training import checkpoint_files
from vla.training.checkpoint import load_weights, saved_groups
from vla.training.checkpoint_files import CheckpointWriter, read_manifest, read_tensors
from vla.training.checkpoint_store import CheckpointStore, find_checkpoint, resolve_resume
from vla.training.inference import load_for_inference


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A finished run; tests only read it."""
    config = toy_config(tmp_path_factory.mktemp("runs") / "done")
    toy_strategy(config).run_training()
    return config.run_dir


def is_pickle(content: bytes) -> bool:
    try:
        return len(list(pickletools.genops(content))) > 1
    except Exception:
        return False


def test_what_is_in_it(run_dir):
    folder = CheckpointStore(run_dir).newest()
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml", "processor.json", "manifest.json", "trainer/state.json", "trainer/optimizer.safetensors",
        "trainer/rank-00000.safetensors", *(f"model/{group}.safetensors" for group in ToyConfig.module_groups),
    }  # fmt: skip
    manifest = read_manifest(folder)
    assert manifest["global_step"] == 8 and manifest["versions"]["torch"] == torch.__version__
    assert not any(is_pickle((folder / name).read_bytes()) for name in names)
    assert cli.load(PretrainConfig, folder / "config.yaml") == toy_config(run_dir)
    assert Processor.load(folder).chunk_size == 3


def test_keys_are_those_of_the_model(run_dir):
    folder = CheckpointStore(run_dir).newest()
    model = toy_model(toy_config(run_dir))
    keys = {name for path in (folder / "model").iterdir() for name in read_tensors(path)}
    assert keys == model.state_dict().keys()
    optimizer = read_tensors(folder / "trainer/optimizer.safetensors")
    assert optimizer.keys() >= {"action_head.bias.exp_avg", "action_head.bias.exp_avg_sq", "action_head.bias.step"}
    assert not any(name.startswith("vision_backbone") for name in optimizer)


def test_published_frozen_backbones_are_left_out(run_dir):
    config, groups = toy_config(run_dir), list(ToyConfig.module_groups)
    assert saved_groups(config, groups) == groups
    published = replace(config, model=replace(config.model, pretrained=True))
    assert saved_groups(published, groups) == ["fusion", "action_head"]
    assert saved_groups(replace(published, pretrained_checkpoint=run_dir), groups) == groups


def test_weights_load_into_another_model(run_dir):
    model = toy_model(toy_config(run_dir))
    with torch.no_grad():
        model.action_head.weight.zero_()
    folder = find_checkpoint(run_dir)
    assert load_weights(model, folder) == list(ToyConfig.module_groups)
    assert torch.equal(model.action_head.weight, read_tensors(folder / "model/action_head.safetensors")[
        "action_head.weight"
    ])  # fmt: skip


def test_weights_of_another_model(run_dir):
    model = toy_model(toy_config(run_dir))
    model.action_head = torch.nn.Linear(16, 5)
    with pytest.raises(ValueError, match=r"action_head\.bias is \[21\] in the checkpoint, \[5\] here"):
        load_weights(model, find_checkpoint(run_dir))
    model.action_head = torch.nn.Sequential(torch.nn.Linear(16, 21))
    with pytest.raises(ValueError, match="is not in the model"):
        load_weights(model, find_checkpoint(run_dir))
    model = toy_model(toy_config(run_dir))
    model.action_head.register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match="action_head.extra of action_head is missing"):
        load_weights(model, find_checkpoint(run_dir))


def test_tied_weights_are_written_once(tmp_path, monkeypatch):
    """And load under either name: one is enough."""
    make = ToyModel.__init__

    def make_tied(model: ToyModel, config: ToyConfig) -> None:
        make(model, config)
        model.fusion[1][0].weight = model.fusion[0][0].weight

    monkeypatch.setattr(ToyModel, "__init__", make_tied)
    config = toy_config(tmp_path / "run")
    toy_strategy(config).run_training()
    folder, model = find_checkpoint(config.run_dir), toy_model(config)
    saved = read_tensors(folder / "model/fusion.safetensors")
    assert "fusion.0.0.weight" in saved and "fusion.1.0.weight" not in saved
    with torch.no_grad():
        model.fusion[0][0].weight.zero_()
    load_weights(model, folder)
    assert torch.equal(model.fusion[1][0].weight, saved["fusion.0.0.weight"])


def test_a_checkpoint_is_all_that_inference_needs(run_dir, tmp_path):
    config, processor, model = load_for_inference(run_dir)
    folder = CheckpointStore(run_dir).best()
    assert config == toy_config(run_dir) and processor.contract() == Processor.load(folder).contract()
    assert not model.training
    saved = {name: value for path in (folder / "model").iterdir() for name, value in read_tensors(path).items()}
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    batch = next(toy_strategy(toy_config(tmp_path / "other")).feed.evaluation_batches())
    prediction = model.predict(replace(batch, images=processor.images(batch.images)))
    assert prediction.shape == batch.actions.shape


def test_what_a_checkpoint_leaves_out_is_had_again(tmp_path, monkeypatch):
    """A frozen published backbone comes from where it came from at first; assets are for checkpoints that are whole."""
    asked = []
    monkeypatch.setattr(ToyModel, "find_weights", classmethod(lambda cls, config: asked.append(config) or {}))
    config = toy_config(tmp_path / "run", {"pretrained": True})
    toy_strategy(config).run_training()
    assert load_for_inference(config.run_dir)[2].frozen_groups == frozenset() and asked == [config.model]
    assert read_manifest(find_checkpoint(config.run_dir))["groups_as_published"] == ["vision_backbone", "llm_backbone"]


def write(store: CheckpointStore, step: int, best: int | None = None) -> None:
    with CheckpointWriter(store.path(step)) as writer:
        writer.tensors("model/a.safetensors", {"x": torch.full((2,), float(step))})
        writer.commit({"global_step": step, "groups": ["a"]})
    store.record(step, best, 0.5, "eval/loss")


def test_last_and_best_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointConfig(keep_last=2))
    for step in (1, 2, 3, 4, 5):
        write(store, step, best=2 if step > 1 else 1)
    assert store.steps() == [2, 4, 5]
    index = json.loads((store.folder / "index.json").read_text())
    assert index == {
        "last": "step-000005", "best": "step-000002", "metric": "eval/loss", "best_value": 0.5,
        "checkpoints": ["step-000002", "step-000004", "step-000005"],
    }  # fmt: skip
    assert store.best() == store.path(2) and store.newest() == store.path(5)
    assert find_checkpoint(tmp_path) == store.path(5) and find_checkpoint(tmp_path, "best") == store.path(2)
    assert find_checkpoint(store.folder) == find_checkpoint(store.path(5)) == store.path(5)


def test_best_is_not_kept_if_not_asked_for(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointConfig(keep_last=1, keep_best=False))
    for step in (1, 2, 3):
        write(store, step, best=1)
    assert store.steps() == [3]


@pytest.mark.parametrize("damage", ["no manifest", "cut", "lost"])
def test_broken_checkpoints_are_passed_over(tmp_path, capsys, damage):
    store = CheckpointStore(tmp_path)
    write(store, 1)
    write(store, 2)
    file = store.path(2) / ("manifest.json" if damage == "no manifest" else "model/a.safetensors")
    file.write_bytes(file.read_bytes()[:-1]) if damage == "cut" else file.unlink()
    assert store.newest() == store.path(1)
    assert "passed over" in capsys.readouterr().err
    assert resolve_resume(tmp_path, "auto") == store.path(1)
    with pytest.raises(ValueError, match="not a complete checkpoint"):
        resolve_resume(tmp_path, str(store.path(2)))


def test_what_resume_means(tmp_path):
    assert resolve_resume(tmp_path, None) is None and resolve_resume(tmp_path, "auto") is None
    with pytest.raises(ValueError, match="no complete checkpoint in"):
        resolve_resume(tmp_path, str(tmp_path / "nowhere"))
    write(CheckpointStore(tmp_path), 3)
    with pytest.raises(ValueError, match="already holds checkpoints; pass --resume auto"):
        resolve_resume(tmp_path, None)


def test_nothing_is_seen_before_it_is_complete(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(checkpoint_files, "flush", flushed.append)
    store = CheckpointStore(tmp_path)
    with CheckpointWriter(store.path(1)) as writer:
        writer.tensors("model/a.safetensors", {"x": torch.zeros(2)})
        writer.json("trainer/state.json", {"a": 1})
        assert store.steps() == []
        writer.commit({"global_step": 1, "groups": ["a"]})
    assert store.newest() == store.path(1)
    assert {path.name for path in flushed} >= {"a.safetensors", "state.json", "manifest.json.tmp", "checkpoints"}


def test_a_failed_save_leaves_the_last_one(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    write(store, 1)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files, "save_file", full_disk)
    with pytest.raises(OSError, match="could not be written.*No space left"):
        write(store, 2)
    assert store.newest() == store.path(1) and [path.name for path in store.folder.iterdir()].count("index.json") == 1
    assert not list(store.folder.glob("*.tmp"))


def test_a_full_disk_does_not_end_the_run(tmp_path, monkeypatch, capsys):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    strategy = toy_strategy(toy_config(tmp_path / "run"))
    monkeypatch.setattr(checkpoint_files, "save_file", full_disk)
    result = strategy.run_training()
    assert result.global_step == 8 and result.last_checkpoint is None
    assert "step 8 is NOT saved" in capsys.readouterr().err
