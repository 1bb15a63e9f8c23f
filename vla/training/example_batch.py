"""Batches of the right shapes and of no content, to count with: what a step needs, without any data."""

import torch

from vla.batches import ActionBatch, Batch
from vla.conf.models import ActionModelConfig, ModelConfig

PROPRIO_DIM = 8  # LIBERO's: position, axis-angle, two fingers


def example_batch(config: ModelConfig, batch_size: int) -> Batch:
    """A prepared batch of `batch_size` samples for the model of `config`, with zeros for everything.

    Raises:
        NotImplementedError: no such batch is known for the model's task.
    """
    if not isinstance(config, ActionModelConfig):
        raise NotImplementedError(f"no example batch for the task {type(config).task!r}")
    processor = config.processor
    num_images, size = processor.num_frames * len(processor.cameras), processor.image_size
    return ActionBatch(
        sample_ids=torch.arange(batch_size),
        images=torch.zeros(batch_size, num_images, 3, size, size),
        instructions=["put the bowl on the plate"] * batch_size,
        actions=torch.zeros(batch_size, config.chunk_size, processor.action_dim),
        action_mask=torch.ones(batch_size, config.chunk_size, dtype=torch.bool),
        proprio=torch.zeros(batch_size, PROPRIO_DIM) if processor.proprio else None,
        rng_seeds=torch.arange(batch_size),
    )
