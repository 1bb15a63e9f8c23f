"""Attention pieces that fusion, geometry encoder and action heads share. B batch, T queries, N keys, D width."""

import torch.nn.functional as F
from torch import Tensor, nn


class MultiHeadAttention(nn.Module):
    """
    Attention of queries over a sequence that may be another one, through PyTorch's fused kernel (arXiv 1706.03762).

    Args:
        dim: Token width D of queries and keys.
        num_heads: Heads; must divide `dim`.
        dropout: Probability of dropping an attention weight in training, in [0, 1].

    Raises:
        ValueError: `num_heads` doesn't divide `dim`.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads: must divide {dim}, got {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """
        Args:
            x: Queries [B, T, D].
            context: Keys and values [B, N, D].
            context_mask: bool [B, N], False where a key must not be seen; at least one True per row.

        Returns:
            [B, T, D].
        """
        query, key, value = self._heads(self.query(x)), self._heads(self.key(context)), self._heads(self.value(context))
        mask = None if context_mask is None else context_mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.out(out.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear, GELU, linear: [..., D] -> [..., D], `mlp_ratio` times as wide inside."""

    def __init__(self, dim: int, mlp_ratio: float = 4.0, dropout: float = 0.0) -> None:
        hidden = int(dim * mlp_ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))


class SelfAttentionBlock(nn.Module):
    """Pre-norm transformer encoder block: [B, T, D] -> [B, T, D]."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, num_heads, dropout)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, mlp_ratio, dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map [B, T, D] to [B, T, D]; `mask` is bool [B, T], False where a token must not be seen."""
        normed = self.norm_attention(x)
        x = x + self.attention(normed, normed, mask)
        return x + self.mlp(self.norm_mlp(x))


class CrossAttentionBlock(nn.Module):
    """Pre-norm transformer decoder block: self-attention, attention over a context, MLP. [B, T, D] -> [B, T, D]."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(dim)
        self.self_attention = MultiHeadAttention(dim, num_heads, dropout)
        self.norm_cross = nn.LayerNorm(dim)
        self.cross_attention = MultiHeadAttention(dim, num_heads, dropout)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, mlp_ratio, dropout)

    def forward(
        self, x: Tensor, context: Tensor, mask: Tensor | None = None, context_mask: Tensor | None = None
    ) -> Tensor:
        """Map [B, T, D] to [B, T, D] with context [B, N, D]; masks are bool [B, T] and [B, N], False = not seen."""
        normed = self.norm_self(x)
        x = x + self.self_attention(normed, normed, mask)
        x = x + self.cross_attention(self.norm_cross(x), context, context_mask)
        return x + self.mlp(self.norm_mlp(x))
