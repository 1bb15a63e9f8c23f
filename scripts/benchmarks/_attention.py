"""Attention as it was before it was fused, to compare with."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@contextmanager
def plain_attention() -> Iterator[None]:
    """Within it, `F.scaled_dot_product_attention` makes the whole matrix of attention weights."""
    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = _plain
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused


def _plain(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of [B, H, N, D]; keys and values may have fewer heads, a bool mask allows pairs."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return scores.softmax(dim=-1) @ value
