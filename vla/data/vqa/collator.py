"""Samples of packs into a batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla.batches import IGNORE_INDEX, PackedBatch
from vla.data.vqa.images import Pixels, batch_images
from vla.data.vqa.processor import VQAProcessor
from vla.data.vqa.tiling import Grid

Ids = NDArray[np.int64]


@dataclass
class Sample:
    """A dialogue about pictures, ready for a pack."""

    key: int  # its number in the dataset
    input_ids: Ids  # int64 [L]
    labels: Ids  # int64 [L], not shifted
    grids: list[Grid]  # rows and columns of every picture's tiles
    pictures: list[Any]  # what `vla.data.vqa.images.open_image` takes; pixels are read when the sample is in a pack
    images: list[Pixels]  # uint8 [3, R * S, C * S] each, once they are read

    def __len__(self) -> int:
        return len(self.input_ids)


class PackCollator:
    """
    Packs into a `PackedBatch`, padded on the right to the longest of them.

    Args:
        processor: gives the padding token, and where images stand.
        cross_document_attention: as published: samples of a pack see those before them, positions count through, and
            a padding token that nobody sees stands behind each.
    """

    def __init__(self, processor: VQAProcessor, cross_document_attention: bool = False) -> None:
        self.processor, self.cross_document_attention = processor, cross_document_attention

    def __call__(self, packs: Sequence[dict[str, Any]]) -> PackedBatch:
        """
        Args:
            packs: each with `samples` (list of `Sample`); nothing is learned from one with `is_padding`.
        """
        rows = [pack["samples"] for pack in packs]
        learned = [not pack.get("is_padding", False) for pack in packs]
        gap = int(self.cross_document_attention)
        length = max(sum(len(sample) + gap for sample in row) for row in rows)
        shape = (len(rows), length)
        batch = {
            "input_ids": np.full(shape, self.processor.pad_id), "labels": np.full(shape, IGNORE_INDEX),
            "document_ids": np.full(shape, -1), "position_ids": np.zeros(shape, np.int64),
            "image_mask": np.zeros(shape, np.bool_), "attention_mask": np.zeros(shape, np.bool_),
        }  # fmt: skip
        segments: list[tuple[int, int, int]] = []
        for row, samples in enumerate(rows):
            start = 0
            for sample in samples:
                end = start + len(sample)
                place = (row, slice(start, end))
                batch["input_ids"][place] = sample.input_ids
                if learned[row]:
                    batch["labels"][row, start + 1 : end] = sample.labels[1:]
                batch["document_ids"][place] = len(segments)
                batch["position_ids"][place] = np.arange(start, end) if gap else np.arange(end - start)
                batch["image_mask"][place] = self.processor.image_mask(sample.input_ids, sample.grids)
                batch["attention_mask"][place] = True
                segments.append((row, start, end))
                start = end + gap
        samples = [sample for row in rows for sample in row]
        tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in batch.items()}
        return PackedBatch(
            sample_ids=torch.tensor([sample.key for sample in samples], dtype=torch.int64),
            is_multimodal=torch.tensor([bool(sample.grids) for sample in samples], dtype=torch.bool),
            pixel_values=self._pixels(samples),
            segments=None if gap else segments,
            **tensors,
        )

    def _pixels(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        images = [image for sample in samples for image in sample.images]
        return batch_images(images, self.processor.tiling.tile, whole=self.processor.whole)


def pad_left(rows: Sequence[Ids], pad: int, length: int | None = None) -> tuple[Tensor, Tensor]:
    """
    Rows of different lengths, padded on the left, as a model continues them.

    Args:
        rows: int64 [L] each.
        pad: what stands on the left.
        length: to which they are padded; longer rows must have been left out. None: that of the longest.

    Returns:
        int64 [B, L], and bool [B, L], False at padding.
    """
    length = max(map(len, rows)) if length is None else length
    ids, mask = np.full((len(rows), length), pad), np.zeros((len(rows), length), np.bool_)
    for number, row in enumerate(rows):
        ids[number, length - len(row) :] = row
        mask[number, length - len(row) :] = True
    return torch.from_numpy(ids), torch.from_numpy(mask)
