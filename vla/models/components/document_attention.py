"""
Causal attention among the documents of packed sequences.

B sequences, L tokens, K keys, H query heads, G key and value heads (a divisor of H), D channels of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Segment = tuple[int, int, int]  # row, first token, end
KINDS = ("auto", "documents", "dense", "flex")


@dataclass(eq=False)
class Visibility:
    """Which tokens a token sees; made once, used by every layer, changed by none. At most one of them is set.

    It is not frozen because `torch.compile` takes all fields of a frozen one for constants: with other documents in
    every batch it would compile anew for each.

    Attributes:
        pieces: documents and what lies between them, of all rows one behind the other: (length, whether it is one).
        mask: bool [B, 1, L, K], True where a token sees another.
        blocks: a `BlockMask` of `flex_attention`.
    """

    pieces: tuple[tuple[int, bool], ...] = ()
    mask: Tensor | None = None
    blocks: Any = None


def visibility(
    attention_mask: Tensor | None, segments: Sequence[Segment] | None, size: tuple[int, int, int], kind: str = "auto",
    device: torch.device | str = "cpu",
) -> Visibility:  # fmt: skip
    """
    Args:
        attention_mask: bool [B, K], False at padding; None: there is none.
        segments: documents by row, in order; None: a row is one document, whatever `kind` says.
        size: B, L and K; the tokens are the last L of K.
        kind: `documents` computes attention document by document; `dense` with a mask of all pairs; `flex` with
            `flex_attention`, which skips blocks of pairs that don't see each other, on CUDA; `auto`, and `flex`
            elsewhere: `documents`.
        device: Where the tokens are.
    """
    if kind == "auto" or (kind == "flex" and torch.device(device).type != "cuda"):
        kind = "documents"
    if segments is not None and kind == "documents":
        return Visibility(pieces=_pieces(segments, size))
    ids = None if segments is None else _segment_ids(segments, size).to(device, non_blocking=True)
    if kind == "flex" and ids is not None:
        return Visibility(blocks=block_mask(ids))
    if attention_mask is None and ids is None and size[1] in (1, size[2]):
        return Visibility()  # plain causal attention; a single token sees everything
    return Visibility(mask=_dense_mask(attention_mask, ids, size, device))


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Visibility, dropout: float = 0.0) -> Tensor:
    """
    Attention [B, L, H, D] of `query` [B, L, H, D] over `key` and `value` [B, K, G, D]; at padding it means nothing.
    """
    if seen.pieces:
        return _by_document(query, key, value, seen.pieces, dropout)
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if seen.blocks is not None:
        out = _flex(query.is_cuda)(query, key, value, block_mask=seen.blocks, enable_gqa=True)
    else:
        causal = seen.mask is None and query.shape[2] > 1
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=seen.mask, dropout_p=dropout, is_causal=causal, enable_gqa=True
        )
    return out.transpose(1, 2)


def _by_document(
    query: Tensor, key: Tensor, value: Tensor, pieces: Sequence[tuple[int, bool]], dropout: float
) -> Tensor:
    lengths = [length for length, _ in pieces]
    parts = (tensor.flatten(0, 1).split(lengths) for tensor in (query, key, value))
    outputs = []
    for (_, is_document), *tensors in zip(pieces, *parts, strict=True):
        if not is_document:
            outputs.append(torch.zeros_like(tensors[0]))
            continue
        q, k, v = (tensor.transpose(0, 1).unsqueeze(0) for tensor in tensors)
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=True)
        outputs.append(out.squeeze(0).transpose(0, 1))
    return torch.cat(outputs).view_as(query)


def _pieces(segments: Sequence[Segment], size: tuple[int, int, int]) -> tuple[tuple[int, bool], ...]:
    batch, length, _ = size
    pieces, position = [], 0
    for row, first, end in segments:
        start = row * length + first
        if not (0 <= first < end <= length and position <= start and row < batch):
            raise ValueError(f"segments must be in order, within {batch} rows of {length} tokens, got {segments}")
        pieces += [(start - position, False), (end - first, True)]
        position = row * length + end
    pieces.append((batch * length - position, False))
    return tuple(piece for piece in pieces if piece[0])


def _segment_ids(segments: Sequence[Segment], size: tuple[int, int, int]) -> Tensor:
    """int64 [B, L]: the number of a token's segment, -1 outside of all."""
    ids = torch.full(size[:2], -1)
    for number, (row, first, end) in enumerate(segments):
        ids[row, first:end] = number
    return ids


def _dense_mask(
    attention_mask: Tensor | None, ids: Tensor | None, size: tuple[int, int, int], device: torch.device | str
) -> Tensor:
    _, length, keys = size
    positions = torch.arange(keys, device=device)
    newer = positions[-length:, None]
    seen = (positions <= newer)[None, None]
    if attention_mask is not None:
        seen = seen & attention_mask[:, None, None, :].to(torch.bool)
    if ids is not None:
        seen = seen & (ids[:, None, :, None] == ids[:, None, None, :])
    # A token always sees itself: padding, which nobody sees, would have nothing to see, and become NaN.
    return seen | (positions == newer)


def block_mask(ids: Tensor) -> Any:
    """For `flex_attention`: tokens see those before them of the same number in `ids` [B, L]; -1: only itself."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = (ids[batch, query] == ids[batch, key]) & (query >= key)
        return same & (ids[batch, query] >= 0) | (query == key)

    return create_block_mask(sees, ids.shape[0], None, ids.shape[1], ids.shape[1], device=str(ids.device))


@cache
def _flex(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention
