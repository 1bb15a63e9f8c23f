"""An image's patches among a text's tokens.

B samples, L tokens of the longest text, N patches of an image, D width, T tokens that have a label.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla.batches import IGNORE_INDEX


@dataclass(frozen=True)
class Sequences:
    """What a language model reads, padded on the right. K is L, or N + L where a sample of the batch has an image."""

    embeds: Tensor  # [B, K, D]
    attention_mask: Tensor  # bool [B, K]
    labels: Tensor | None = None  # int64 [B, K], not shifted

    def rows(self, index: Tensor) -> "Sequences":
        """The given samples, in that order."""
        labels = None if self.labels is None else self.labels.index_select(0, index)
        return Sequences(self.embeds.index_select(0, index), self.attention_mask.index_select(0, index), labels)


def fuse(text: Sequences, patches: Tensor, has_image: list[bool], *, published_order: bool = False) -> Sequences:
    """
    Put projected patches behind the first token of the samples that have an image.

    Patches have no labels. Samples without an image get as many zero vectors at their end, which nobody attends to.

    Args:
        text: K = L.
        patches: [number of True in `has_image`, N, D], in the samples' order.
        has_image: By sample.
        published_order: Samples with an image come first, as in the published code; else they stay where they are.

    Returns:
        K = N + L.
    """
    device, num_patches = text.embeds.device, patches.shape[1]
    order = sorted(range(len(has_image)), key=lambda row: not has_image[row])
    count = sum(has_image)
    if order != list(range(len(order))):
        text = text.rows(torch.tensor(order, device=device))
    with_image = _join(
        _slice(text, slice(0, count), slice(0, 1)), _filled(patches.to(text.embeds.dtype), True, text.labels),
        _slice(text, slice(0, count), slice(1, None)),
    )  # fmt: skip
    zeros = text.embeds.new_zeros(len(order) - count, num_patches, text.embeds.shape[2])
    without = _join(_slice(text, slice(count, None), slice(None)), _filled(zeros, False, text.labels))
    fused = _stack(with_image, without)
    if published_order or order == list(range(len(order))):
        return fused
    back = torch.tensor(order).argsort().to(device)
    return fused.rows(back)


def labelled_positions(labels: Tensor, is_multimodal: Tensor, num_patches: int) -> tuple[Tensor, Tensor, Tensor]:
    """
    Where the tokens that have a label are predicted: one position before each.

    Args:
        labels: int64 [B, L], of the text, not shifted.
        is_multimodal: bool [B].
        num_patches: N; 0 if no sample has an image.

    Returns:
        Row, position among the N + L, and label of each, int64 [T], row by row. What a text begins with has nothing
        before it and is never among them.
    """
    rows, columns = (labels[:, 1:] != IGNORE_INDEX).nonzero(as_tuple=True)
    return rows, columns + num_patches * is_multimodal[rows], labels[rows, columns + 1]


def _slice(text: Sequences, rows: slice, columns: slice) -> Sequences:
    labels = None if text.labels is None else text.labels[rows, columns]
    return Sequences(text.embeds[rows, columns], text.attention_mask[rows, columns], labels)


def _filled(embeds: Tensor, attended: bool, like: Tensor | None) -> Sequences:
    """`embeds` with one value of the mask, and no labels."""
    mask = torch.full(embeds.shape[:2], attended, device=embeds.device)
    labels = None if like is None else torch.full(embeds.shape[:2], IGNORE_INDEX, device=embeds.device)
    return Sequences(embeds, mask, labels)


def _join(*parts: Sequences) -> Sequences:
    """One behind the other."""
    return _concatenate(parts, dim=1)


def _stack(*parts: Sequences) -> Sequences:
    """The samples of all."""
    return _concatenate([part for part in parts if len(part.embeds)] or parts[:1], dim=0)


def _concatenate(parts: Sequence[Sequences], dim: int) -> Sequences:
    labels = [part.labels for part in parts if part.labels is not None]
    return Sequences(
        torch.cat([part.embeds for part in parts], dim), torch.cat([part.attention_mask for part in parts], dim),
        torch.cat(labels, dim) if labels else None,
    )  # fmt: skip
