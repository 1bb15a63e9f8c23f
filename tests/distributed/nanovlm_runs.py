"""Runs of nanovlm-tiny that must give the same numbers in one process and in two."""

from dataclasses import replace
from pathlib import Path

from llava_files import write_llava

from vla.conf.models.nanovlm import NanoVLMTinyConfig
from vla.conf.pretrain import EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.conf.strategies import StrategyConfig
from vla.conf.vqa_datasets import LlavaVQAConfig, PackingConfig

STREAMS = 4  # of all processes together; the order depends on it


def nanovlm_config(root: Path, name: str, algorithm: str, world_size: int, strategy: StrategyConfig) -> PretrainConfig:
    """Four sequences per step, one at a time; where each holds one sample, some micro-batches have no image."""
    packing = PackingConfig(algorithm=algorithm, buffer_size=8, streams=STREAMS // world_size)
    tiny = NanoVLMTinyConfig()
    stage = replace(tiny.full_finetune, max_steps=6, per_device_batch_size=1, learning_rate=3e-3, strategy=strategy)
    data = LlavaVQAConfig(
        root=write_llava(root / "data").root, validation_annotations=None, validation_fraction=0.25, packing=packing
    )
    return PretrainConfig(
        model=replace(tiny, full_finetune=stage), dataset=data, stage=Stage.FULL_FINETUNE, run_root_dir=root,
        run_id=name.replace(" ", "-"), device="cpu", log_every_steps=1, trackers=("jsonl",),
        loader=LoaderConfig(num_workers=0), evaluation=EvaluationConfig(every_steps=3, every_epochs=None),
    )  # fmt: skip
