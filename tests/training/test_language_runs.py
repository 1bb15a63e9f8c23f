"""Runs of prism-tiny: resumed to the bit, with recomputed activations, and with kept features of frozen parts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from llava_files import write_llava

from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, FeatureCacheConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.data.language.datasets import LlavaDataset
from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore
from vla.training.data_feed import PROBE_SAMPLES


def run_config(folder: Path, name: str, stage: Stage = Stage.FINETUNE, workers: int = 0, **values) -> PretrainConfig:
    """Two micro-batches a step, with rows of text alone among the others; `values` are of the stage."""
    tiny = PrismTinyConfig(arch_specifier="no-align+gelu-mlp")
    settings = replace(tiny.stage(stage), **({"epochs": 2, "learning_rate": 3e-3} | values))
    return PretrainConfig(
        model=replace(tiny, **{stage.field_name: settings}), dataset=write_llava(folder / "data"), stage=stage,
        run_root_dir=folder, run_id=name, device="cpu", log_every_steps=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=workers, split_modality="never"), evaluation=EvaluationConfig(every_steps=2),
        checkpoint=CheckpointConfig(every_steps=1, keep_last=20),
    )  # fmt: skip


def run(config: PretrainConfig):
    strategy = pretrain.build_strategy(config, DistState())
    strategy.run_training()
    return strategy


def weights(config: PretrainConfig) -> dict[str, torch.Tensor]:
    folder = CheckpointStore(config.run_dir).newest()
    return {name: value for path in folder.glob("model/*") for name, value in read_tensors(path).items()}


def assert_close(left: PretrainConfig, right: PretrainConfig) -> None:
    for ours, theirs in zip(toys.metrics(left.run_dir), toys.metrics(right.run_dir), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_is_exact(tmp_path, workers):
    straight, broken = (run_config(tmp_path, name, workers=workers) for name in ("straight", "broken"))
    steps = run(straight).state.global_step
    strategy = pretrain.build_strategy(broken, DistState())
    toys.stop_at(strategy, 3)
    with pytest.raises(KeyboardInterrupt):
        strategy.run_training()
    torch.manual_seed(99)
    assert run(replace(broken, resume="auto")).state.global_step == steps > 6
    toys.assert_same_run(straight.run_dir, broken.run_dir, steps)


def test_recomputed_activations_change_nothing(tmp_path):
    kept, recomputed = (
        run_config(tmp_path, name, Stage.FULL_FINETUNE, gradient_checkpointing=name == "recomputed", max_steps=3)
        for name in ("kept", "recomputed")
    )
    run(kept)
    run(recomputed)
    assert_close(recomputed, kept)


@pytest.mark.parametrize("stage", [Stage.ALIGN, Stage.FINETUNE])
def test_features_of_a_frozen_backbone_are_computed_once(tmp_path, monkeypatch, stage):
    """In memory and on disk; a later run finds the latter, and opens a few pictures to see what they look like."""
    anew, memory, disk, again = (run_config(tmp_path, name, stage) for name in ("anew", "memory", "disk", "again"))
    model = replace(anew.model, **{stage.field_name: replace(anew.stage_config, cache_frozen_features=False)})
    run(replace(anew, model=model))
    cache = run(memory).features
    samples = cache.num_computed
    on_disk = FeatureCacheConfig(dir=tmp_path / "features")
    run(replace(disk, feature_cache=on_disk))
    opened, open_image = [], LlavaDataset._open
    monkeypatch.setattr(LlavaDataset, "_open", lambda self, number: opened.append(number) or open_image(self, number))
    found = run(replace(again, feature_cache=on_disk)).features
    assert samples and found.num_computed == 0 and len(opened) <= PROBE_SAMPLES
    for config in (memory, disk, again):
        assert_close(config, anew)
