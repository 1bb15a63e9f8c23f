"""Runs of the tiny OpenVLA and OFT on a demonstration, alone and together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models import ModelConfig
from vla.conf.models.lora import LoRAConfig
from vla.conf.models.openvla import published_images
from vla.conf.models.openvla_oft import DiffusionHeadConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.conf.strategies import StrategyConfig

# name -> what is trained: model, and fields of it
OPENVLA_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "tokens": ("openvla-tiny", {"processor": published_images(image_size=28, augmentation=True)}),
    "lora": ("openvla-oft-tiny", {"lora": LoRAConfig(rank=2), "film": True}),
    "diffusion": ("openvla-oft-tiny", {"action_head": DiffusionHeadConfig(hidden_dim=32, num_inference_steps=2)}),
}
# name -> model, strategy, samples of a micro-batch of each of two processes
OPENVLA_CASES = {
    "tokens ddp accumulation 2": ("tokens", "ddp", 2),
    "tokens fsdp-full-shard": ("tokens", "fsdp-full-shard", 4),
    "lora ddp": ("lora", "ddp", 4),
    "lora fsdp-full-shard accumulation 2": ("lora", "fsdp-full-shard", 2),
    "diffusion ddp": ("diffusion", "ddp", 4),
    "diffusion fsdp-full-shard": ("diffusion", "fsdp-full-shard", 4),
}


def openvla_config(root: Path, name: str, kind: str, strategy: StrategyConfig, per_device: int = 8) -> PretrainConfig:
    """Three steps of everything, and an evaluation."""
    model_id, values = OPENVLA_MODELS[kind]
    model = replace(ModelConfig.get_choice_class(model_id)(), **values)
    budget: dict[str, Any] = {"max_steps": 3, "global_batch_size": 8, "per_device_batch_size": per_device}
    stage = replace(model.full_finetune, strategy=strategy, **budget)
    task = sorted(LiberoMiniConfig().root.glob("*_demo.hdf5"))[0].name.removesuffix("_demo.hdf5")  # type: ignore[union-attr]
    return PretrainConfig(
        model=replace(model, full_finetune=stage), stage=Stage.FULL_FINETUNE,
        dataset=LiberoMiniConfig(tasks=(task,), max_episodes_per_task=2), run_root_dir=root,
        run_id=name.replace(" ", "-"), device="cpu", log_every_steps=1, trackers=("jsonl",), report=False,
        evaluation=EvaluationConfig(every_steps=3, every_epochs=None, max_batches=1),
        loader=LoaderConfig(num_workers=0), checkpoint=CheckpointConfig(every_epochs=None),
    )  # fmt: skip
