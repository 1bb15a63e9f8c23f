"""Batches of the right shapes and of no content, to count with: what a step needs, without any data."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from vla.batches import IGNORE_INDEX, ActionBatch, AnomalyBatch, Batch, LanguageBatch, PackedBatch
from vla.conf.models import ModelConfig
from vla.conf.pretrain import PretrainConfig
from vla.models.base import BaseModel
from vla.training.feature_cache import frozen_sources
from vla.training.precision import autocast_context


def example_batch(config: ModelConfig, batch_size: int) -> Batch:
    """A prepared batch of `batch_size` samples for the model of `config`, with zeros for everything.

    Sequences of language models are as long as they may be.

    Raises:
        NotImplementedError: no such batch is known for the model's task.
    """
    make = _MAKERS.get(type(config).task)
    if make is None:
        raise NotImplementedError(f"no example batch for the task {type(config).task!r}")
    return make(config, batch_size)


def example_features(model: BaseModel, config: PretrainConfig, groups: Collection[str]) -> dict[str, Tensor]:
    """Features [1, ...] of those of `groups` that are frozen, of a model on `meta`; without those that need real
    numbers.
    """
    one = example_batch(config.model, 1).map_tensors(lambda item: item.to("meta") if item.is_floating_point() else item)
    features: dict[str, Tensor] = {}
    for group, source in frozen_sources(model).items():
        if group in groups:
            with suppress(Exception), torch.no_grad(), autocast_context(config.stage_config.precision, "cpu"):
                features.update(source.compute(one))
    return features


def _actions(config: Any, batch_size: int) -> ActionBatch:
    processor = config.processor
    num_images, size = processor.num_frames * len(processor.cameras), processor.image_size
    return ActionBatch(
        sample_ids=torch.arange(batch_size),
        images=torch.zeros(batch_size, num_images, 3, size, size),
        instructions=["put the bowl on the plate"] * batch_size,
        actions=torch.zeros(batch_size, config.chunk_size, processor.action_dim),
        action_mask=torch.ones(batch_size, config.chunk_size, dtype=torch.bool),
        proprio=torch.zeros(batch_size, config.state_dim) if processor.proprio else None,
        rng_seeds=torch.arange(batch_size),
    )


def _language(config: Any, batch_size: int) -> LanguageBatch:
    shape = (batch_size, config.processor.max_length)
    transforms = config.vision_backbone.transforms
    return LanguageBatch(
        sample_ids=torch.arange(batch_size),
        input_ids=torch.zeros(shape, dtype=torch.int64),
        attention_mask=torch.ones(shape, dtype=torch.bool),
        labels=torch.zeros(shape, dtype=torch.int64),
        pixel_values={
            tower: torch.zeros(batch_size, 3, transform.size, transform.size) for tower, transform in transforms.items()
        },
        is_multimodal=torch.ones(batch_size, dtype=torch.bool),
        rng_seeds=torch.arange(batch_size),
    )


def _pictures(config: Any, batch_size: int) -> AnomalyBatch:
    size = config.processor.input_size
    return AnomalyBatch(
        sample_ids=torch.arange(batch_size),
        images=torch.zeros(batch_size, 3, *size),
        masks=torch.zeros(batch_size, *size, dtype=torch.bool),
        labels=torch.zeros(batch_size, dtype=torch.int64),
        classes=["bottle"] * batch_size,
        files=["bottle/train/good/000.png"] * batch_size,
        is_real=torch.ones(batch_size, dtype=torch.bool),
        rng_seeds=torch.arange(batch_size),
    )


def _packs(config: Any, batch_size: int) -> PackedBatch:
    """Full sequences: tiles take four fifths of their places, and everything else is learned."""
    length, per_tile = config.processor.max_length, config.tokens_per_tile
    shape, tiles = (batch_size, length), int(0.8 * length) // (per_tile + 1)
    is_image = torch.zeros(shape, dtype=torch.bool)
    is_image[:, : tiles * per_tile] = True
    return PackedBatch(
        sample_ids=torch.arange(batch_size),
        input_ids=torch.zeros(shape, dtype=torch.int64),
        attention_mask=torch.ones(shape, dtype=torch.bool),
        labels=torch.zeros(shape, dtype=torch.int64).masked_fill(is_image, IGNORE_INDEX),
        pixel_values={
            tower: torch.zeros(batch_size * tiles, 3, transform.size, transform.size)
            for tower, transform in config.vision_backbone.transforms.items()
        },
        is_multimodal=torch.ones(batch_size, dtype=torch.bool),
        document_ids=torch.arange(batch_size)[:, None].expand(shape).clone(),
        position_ids=torch.arange(length).expand(shape).clone(),
        image_mask=is_image,
        segments=[(row, 0, length) for row in range(batch_size)],
    )


_MAKERS: dict[str, Callable[[Any, int], Batch]] = {
    "action": _actions, "anomaly": _pictures, "language": _language, "vqa": _packs,
}  # fmt: skip
