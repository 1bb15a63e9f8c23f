"""Collators: a list of samples into a typed batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from vla.batches import ActionBatch


class ActionCollator:
    """Samples of an action dataset into an `ActionBatch`.

    Images are stacked in the memory layout that they came in, which for LIBERO is channels last. In a worker process
    the batch is made in shared memory right away.
    """

    def __call__(self, samples: list[dict[str, Any]]) -> ActionBatch:
        mask = _stack(samples, "action_mask")
        padding = [bool(sample.get("is_padding", False)) for sample in samples]
        if any(padding):
            mask[torch.tensor(padding)] = False
        seeds = _integers(samples, "rng_seed") if "rng_seed" in samples[0] else None
        return ActionBatch(
            sample_ids=_integers(samples, "sample_id"),
            images=_stack_images([sample["images"] for sample in samples]),
            instructions=[sample["instruction"] for sample in samples],
            actions=_stack(samples, "actions"),
            action_mask=mask,
            proprio=_stack(samples, "proprio") if "proprio" in samples[0] else None,
            rng_seeds=seeds,
            augmentation_seeds=seeds if samples[0].get("augmented") else None,
        )


def _integers(samples: list[dict[str, Any]], key: str) -> Tensor:
    return torch.tensor([int(sample.get(key, 0)) for sample in samples], dtype=torch.int64)


def _stack(samples: list[dict[str, Any]], key: str) -> Tensor:
    return default_collate([sample[key] for sample in samples])


def _stack_images(images: list[np.ndarray]) -> Tensor:
    """uint8 [B, S, 3, H, W] of B times [S, 3, H, W]; transposing so many bytes here would cost more than reading."""
    channels_last = [image.transpose(0, 2, 3, 1) for image in images]
    if channels_last[0].flags.c_contiguous:
        return default_collate(channels_last).permute(0, 1, 4, 2, 3)
    return default_collate(images)
