"""Samples of language datasets into a batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from vla.batches import IGNORE_INDEX, LanguageBatch
from vla.data.language.processor import LanguageProcessor


class LanguageCollator:
    """Samples into a `LanguageBatch`, padded on the right to the longest of them.

    Rows without an image get black ones, so that every batch has the same keys and all processes run the same modules;
    the model looks at `is_multimodal`. What is padding follows from the rows' lengths, not from the padding token,
    which some tokenizers also end sequences with (the published collator compares ids).

    Args:
        processor: gives the padding token, and the towers with their sizes.
    """

    def __init__(self, processor: LanguageProcessor) -> None:
        self._pad_id = processor.pad_id
        self._sizes = {tower: transform.size for tower, transform in processor.transforms.items()}

    def __call__(self, samples: list[dict[str, Any]]) -> LanguageBatch:
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        labels = _fill(samples, "labels", IGNORE_INDEX, mask)
        labels[torch.tensor([bool(sample.get("is_padding", False)) for sample in samples])] = IGNORE_INDEX
        return LanguageBatch(
            sample_ids=_integers(samples, "sample_id"),
            input_ids=_fill(samples, "input_ids", self._pad_id, mask),
            attention_mask=mask,
            labels=labels,
            pixel_values={tower: self._images(samples, tower) for tower in self._sizes},
            is_multimodal=torch.tensor([bool(sample["is_multimodal"]) for sample in samples]),
            rng_seeds=_integers(samples, "rng_seed") if "rng_seed" in samples[0] else None,
        )

    def _images(self, samples: list[dict[str, Any]], tower: str) -> Tensor:
        """uint8 [B, 3, S, S] in channels-last memory, like the samples' images."""
        given = [sample["pixel_values"] for sample in samples if sample["pixel_values"] is not None]
        shape = given[0][tower].shape if given else (3, self._sizes[tower], self._sizes[tower])
        black = np.zeros((*shape[1:], 3), np.uint8)
        images = [
            black if sample["pixel_values"] is None else sample["pixel_values"][tower].transpose(1, 2, 0)
            for sample in samples
        ]
        return default_collate(images).permute(0, 3, 1, 2)


def _integers(samples: list[dict[str, Any]], key: str) -> Tensor:
    return torch.tensor([int(sample.get(key, 0)) for sample in samples], dtype=torch.int64)


def _fill(samples: list[dict[str, Any]], key: str, value: int, mask: Tensor) -> Tensor:
    """int64 [B, L], rows of different lengths on the left and `value` right of them."""
    filled = torch.full(mask.shape, value)
    filled[mask] = torch.from_numpy(np.concatenate([sample[key] for sample in samples]))
    return filled
