"""Runs of uniad-tiny on a few rendered pictures, alone and together."""

from dataclasses import replace
from pathlib import Path

from vla.conf.datasets import MVTecADConfig
from vla.conf.models.uniad import UniADTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.render_defects import RenderDefectsConfig
from vla.conf.stage import Stage
from vla.conf.strategies import StrategyConfig
from vla.data.defects.writing import write_dataset

# name -> strategy, stage, pictures of a micro-batch, whether frozen features are kept
UNIAD_CASES = {
    "ddp": ("ddp", Stage.ALIGN, 2, True),
    "ddp accumulation 2": ("ddp", Stage.ALIGN, 1, True),
    "ddp without cache": ("ddp", Stage.ALIGN, 2, False),
    "fsdp-full-shard": ("fsdp-full-shard", Stage.ALIGN, 2, True),
    "fsdp-full-shard accumulation 2": ("fsdp-full-shard", Stage.ALIGN, 1, False),
    "ddp full": ("ddp", Stage.FULL_FINETUNE, 2, False),
    "fsdp-full-shard full": ("fsdp-full-shard", Stage.FULL_FINETUNE, 2, False),
}


def render(root: Path) -> Path:
    """Nine training pictures (steps of 4, 4 and 1) of three classes, and an odd number of test pictures."""
    folder = root / "data"
    classes = ("wood", "plate", "capsule")
    write_dataset(RenderDefectsConfig(folder, classes=classes, train=3, test_good=1, test_bad=1, image_size=48))
    return folder


def uniad_config(
    root: Path, name: str, strategy: StrategyConfig, stage: Stage = Stage.ALIGN, per_device: int = 4, cache: bool = True
) -> PretrainConfig:
    """Two epochs of three steps."""
    tiny = UniADTinyConfig()
    budget = {"epochs": 2, "global_batch_size": 4, "per_device_batch_size": per_device, "cache_frozen_features": cache}
    values = replace(tiny.stage(stage), strategy=strategy, **budget)
    return PretrainConfig(
        model=replace(tiny, **{stage.field_name: values}), dataset=MVTecADConfig(root=root / "data"), stage=stage,
        run_root_dir=root, run_id=name.replace(" ", "-"), device="cpu", log_every_steps=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=0), evaluation=EvaluationConfig(metric="eval/pixel_auroc", mode="max"),
        checkpoint=CheckpointConfig(keep_last=9),
    )  # fmt: skip
