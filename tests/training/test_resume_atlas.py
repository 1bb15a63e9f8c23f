"""AtlasVLA on real demonstrations, stopped in the middle of an epoch: resumed, it ends with the same bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys import assert_same_run, stopped_at

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.components import FlowHeadConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, FeatureCacheConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.data.datasets.hdf5_frames import FrameReader
from vla.overwatch.distributed import DistState
from vla.training import pretrain

FILES = sorted(LiberoMiniConfig().root.glob("*_demo.hdf5"))


def config(run_dir: Path, stage: Stage, **values: Any) -> PretrainConfig:
    """Two epochs of three steps of four micro-batches, with a worker process, dropout and drawn noise."""
    tiny = VGGTTinyConfig()
    head = FlowHeadConfig(chunk_size=2, hidden_dim=32, num_layers=1, num_heads=4, num_solver_steps=2, dropout=0.1)
    budget = {"epochs": 2, "global_batch_size": 40, "per_device_batch_size": 10}
    return PretrainConfig(
        model=replace(
            tiny, processor=replace(tiny.processor, image_size=28), action_head=head,
            **{stage.field_name: replace(tiny.stage(stage), **budget)},
        ),
        dataset=LiberoMiniConfig(tasks=(FILES[0].name.removesuffix("_demo.hdf5"),), max_episodes_per_task=2),
        stage=stage, run_root_dir=run_dir.parent, run_id=run_dir.name, device="cpu", log_every_steps=1,
        trackers=("jsonl",), checkpoint=CheckpointConfig(every_steps=1, keep_last=9),
        **{"loader": LoaderConfig(num_workers=1), "evaluation": EvaluationConfig(max_batches=1), **values},
    )  # fmt: skip


@pytest.mark.skipif(not FILES, reason="libero-mini is not here")
@pytest.mark.parametrize("stage", [Stage.ALIGN, Stage.FULL_FINETUNE])  # with and without reused features
def test_resume_is_exact(tmp_path: Path, stage: Stage) -> None:
    assert pretrain.train(config(tmp_path / "straight", stage), DistState()).global_step == 6
    with stopped_at(4):
        pretrain.train(config(tmp_path / "broken", stage), DistState())
    assert pretrain.train(config(tmp_path / "broken", stage, resume="auto"), DistState()).global_step == 6
    assert_same_run(tmp_path / "straight", tmp_path / "broken", 6)


@pytest.mark.skipif(not FILES, reason="libero-mini is not here")
def test_a_run_that_finds_all_features_reads_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vision backbone's are on disk; the language model's are computed, from batches without images."""
    read, reads = FrameReader.read, []
    monkeypatch.setattr(FrameReader, "read", lambda *arguments: reads.append(1) or read(*arguments))
    kept = FeatureCacheConfig(dir=tmp_path / "features")
    values = {"feature_cache": kept, "loader": LoaderConfig(num_workers=0), "evaluation": EvaluationConfig()}
    assert pretrain.train(config(tmp_path / "first", Stage.ALIGN, **values), DistState()).global_step == 6
    first = len(reads)
    assert pretrain.train(config(tmp_path / "second", Stage.ALIGN, **values), DistState()).global_step == 6
    assert_same_run(tmp_path / "first", tmp_path / "second", 6)
    probe = 10 * len(VGGTTinyConfig().processor.cameras)  # at most a micro-batch, to see what features look like
    assert len(reads) - first <= probe < first
