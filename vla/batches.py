"""Typed batches: what a collator makes and a model takes. Shapes: B samples, S images of a sample, L tokens."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from vla.errors import UserError

MAX_INSTRUCTION = 4096  # characters; attention over a text that no person wrote would take all memory

BatchType = TypeVar("BatchType", bound="Batch")


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    return value


def check_instruction(text: str) -> str:
    """`text`, an instruction from outside.

    Raises:
        UserError: it is longer than `MAX_INSTRUCTION` characters; one line.
    """
    if len(text) > MAX_INSTRUCTION:
        raise UserError(
            f"instruction: must be at most {MAX_INSTRUCTION} characters, got {len(text)} ({text[:40]!r}...)"
        )
    return text


@dataclass
class Batch:
    """Base of all batches; `sample_ids` is int64 [B], the samples' indices in their dataset."""

    sample_ids: Tensor

    def __len__(self) -> int:
        return len(self.sample_ids)

    def map_tensors(self: BatchType, function: Callable[[Tensor], Tensor]) -> BatchType:
        """A copy with `function` applied to every tensor."""
        return replace(self, **{item.name: _map(getattr(self, item.name), function) for item in fields(self)})

    def to(self: BatchType, device: torch.device | str, non_blocking: bool = True) -> BatchType:
        """A copy with every tensor on `device`."""
        return self.map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: BatchType) -> BatchType:
        """A copy in page-locked memory. Without this method DataLoader would leave a dataclass as it is."""
        return self.map_tensors(Tensor.pin_memory)


@dataclass
class ActionBatch(Batch):
    """Observations, instructions and demonstrated actions."""

    images: Tensor  # uint8 [B, S, 3, H, W] as stored; float [B, S, 3, h, w] in [0, 1] after Processor.images.
    #                 S = num_frames x cameras, time-major: all cameras of the oldest frame first
    instructions: list[str]
    actions: Tensor  # float32 [B, chunk, action_dim], normalised; actions[:, 0] belongs to the newest frame
    action_mask: Tensor  # bool [B, chunk]; False past the end of the episode and for padding samples
    proprio: Tensor | None = None  # float32 [B, proprio_dim], normalised
    rng_seeds: Tensor | None = None  # int64 [B], f(run seed, epoch, sample): noise that doesn't depend on the batching
    augmentation_seeds: Tensor | None = None  # int64 [B], where images are to be augmented; else None
    features: dict[str, Tensor] = field(default_factory=dict)  # what frozen module groups give for this batch


IGNORE_INDEX = -100  # label of a token that is not learned


@dataclass
class LanguageBatch(Batch):
    """Token sequences to continue, some of them about an image. L is the longest sequence of the batch."""

    input_ids: Tensor  # int64 [B, L], padded on the right
    attention_mask: Tensor  # bool [B, L], False at padding
    labels: Tensor  # int64 [B, L], not shifted; IGNORE_INDEX where nothing is learned, and in all of a padding sample
    pixel_values: dict[str, Tensor]  # by tower: uint8 [B, 3, H, W] as loaded, normalised float32 once prepared;
    #                                  of no meaning (zeros) in text-only rows
    is_multimodal: Tensor  # bool [B]; False: a text-only row
    rng_seeds: Tensor | None = None  # int64 [B], f(run seed, epoch, sample)
    features: dict[str, Tensor] = field(default_factory=dict)  # what frozen module groups give for this batch


@dataclass(kw_only=True)
class PackedBatch(LanguageBatch):
    """
    Sequences that hold one sample after another. D samples in B sequences of L tokens; I images cut into N tiles.

    `sample_ids` and `is_multimodal` are of samples, [D]; `rng_seeds` too. `pixel_values` holds, as loaded, the images
    uint8 [n, 3, R * S, C * S] by grid ("RxC" tiles of S pixels) and `order` int64 [N], which tile comes when; once
    prepared, normalised float32 [N, 3, S, S] by tower, in the order of `image_mask`.
    """

    document_ids: Tensor  # int64 [B, L], the number in [0, D) of the sample that a token is of; -1 at padding
    position_ids: Tensor  # int64 [B, L], counted from the beginning of what a token may see
    image_mask: Tensor  # bool [B, L], where the tiles' embeddings stand, tile after tile
    segments: list[tuple[int, int, int]] | None = None  # (row, first, end) of tokens that see those before them in the
    #                           same segment, and no others; None: all those before them in the row, but for padding
    cursors: dict[int, Any] = field(default_factory=dict)  # where its streams stand after this batch


@dataclass
class AnomalyBatch(Batch):
    """Pictures, some of them of defects, with the truth about where these are."""

    images: Tensor  # uint8 [B, 3, H, W] as loaded; float32, normalised, once prepared
    masks: Tensor  # bool [B, H, W], True at defects
    labels: Tensor  # int64 [B], 1: the picture is said to show a defect
    classes: list[str]
    files: list[str]  # below the dataset's root
    is_real: Tensor  # bool [B]; False: a padding sample
    rng_seeds: Tensor | None = None  # int64 [B], f(run seed, epoch, sample)
    features: dict[str, Tensor] = field(default_factory=dict)  # what frozen module groups give for this batch
