"""Samples of an anomaly dataset into an `AnomalyBatch`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla.batches import AnomalyBatch

AUGMENTATIONS = ("hflip", "vflip", "rotate")  # each with probability 1/2; rotate: by 90, 180 or 270 degrees


class AnomalyCollator:
    """Stacks pictures and masks, after turning those that want it as their `rng_seed` says."""

    def __call__(self, samples: list[dict[str, Any]]) -> AnomalyBatch:
        pairs = [augment(sample) for sample in samples]
        return AnomalyBatch(
            sample_ids=_integers(samples, "sample_id"),
            images=torch.from_numpy(np.stack([image for image, _ in pairs])),
            masks=torch.from_numpy(np.stack([mask for _, mask in pairs])),
            labels=_integers(samples, "label"),
            classes=[sample["class_name"] for sample in samples],
            files=[sample["file"] for sample in samples],
            is_real=torch.tensor([not sample.get("is_padding", False) for sample in samples]),
            rng_seeds=_integers(samples, "rng_seed") if "rng_seed" in samples[0] else None,
        )


def augment(sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Picture [3, H, W] and mask [H, W] of a sample, turned alike by its `augment` and `rng_seed`."""
    image, mask = sample["image"], sample["mask"]
    wanted = sample.get("augment", ())
    if not wanted:
        return image, mask
    generator = np.random.default_rng(int(sample.get("rng_seed", 0)))
    if "hflip" in wanted and generator.random() < 0.5:
        image, mask = image[..., ::-1], mask[..., ::-1]
    if "vflip" in wanted and generator.random() < 0.5:
        image, mask = image[..., ::-1, :], mask[..., ::-1, :]
    if "rotate" in wanted and generator.random() < 0.5:
        turns = int(generator.integers(1, 4))
        image, mask = (np.rot90(item, turns, axes=(-2, -1)) for item in (image, mask))
    return image, mask


def _integers(samples: list[dict[str, Any]], key: str) -> Tensor:
    return torch.tensor([int(sample.get(key, 0)) for sample in samples], dtype=torch.int64)
