"""Attention and dropout of UniAD's transformer, in the form that is fastest where it runs.

PyTorch fuses attention on GPUs, and on CPUs where nothing is dropped. With dropout on a CPU it writes out the matrix of
weights in several passes, and draws a random number of 32 bits for each weight, which takes longer than the products.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

_LEVELS = 2**16  # of the numbers that decide what is dropped


def drop(x: Tensor, probability: float) -> Tensor:
    """`x` with entries set to 0 at random, the others scaled so that the mean stays.

    On a CPU four entries share one random number of 64 bits: the probability is rounded to a multiple of 1 / 65,536.
    """
    if x.device.type != "cpu" or probability >= 1:
        return nn.functional.dropout(x, probability)
    dropped = round(probability * _LEVELS)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = draws[: x.numel()].view(x.shape) >= dropped - _LEVELS // 2
    return x * kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` by `drop`."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; in evaluation mode, or with a probability of 0, `x` itself."""
        return drop(x, self.p) if self.training and self.p > 0 else x


class Attention(nn.MultiheadAttention):
    """`nn.MultiheadAttention`, batch first, with its parameters; gives no weights.

    Args:
        dim: channels, D.
        heads: H.
        dropout: share of the weights that are dropped while training.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(dim, heads, dropout, batch_first=True)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:  # type: ignore[override]
        """
        Args:
            query: float [B, N, D], or [1, N, D]: the same for all samples.
            key, value: float [B, M, D].
            mask: bool [N, M], True where a query must not look.

        Returns:
            Float [B, N, D].
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        q = q.expand(len(k), -1, -1, -1)
        dropout = self.dropout if self.training else 0.0
        if q.device.type == "cpu" and dropout > 0:
            out = _written_out(q, k, v, mask, dropout)
        else:
            seen = None if mask is None else ~mask
            out = scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)
        return self.out_proj(out.transpose(1, 2).flatten(2))


def _written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Attention of [B, H, N, d], [B, H, M, d], [B, H, M, d] in as few passes over the weights as can be."""
    batch, scale = query.shape[:2], query.shape[-1] ** -0.5
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    if mask is None:
        mask = torch.zeros(q.shape[1], k.shape[1], dtype=torch.bool)
    blind = mask.all(-1, keepdim=True)  # [N, 1]: queries that see nothing get nothing, as from PyTorch's attention
    offset = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(mask & ~blind, float("-inf"))
    weights = torch.baddbmm(offset, q, k.transpose(1, 2), alpha=scale).softmax(-1)
    return torch.bmm(drop(weights, dropout), v).masked_fill(blind, 0).unflatten(0, batch)
