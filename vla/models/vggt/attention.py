"""
attention.py

Multi-head self-attention with optional query/key normalisation and 2D RoPE, through PyTorch's fused kernel.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vla.models.vggt.rope import RopeTable, apply_rope


class Attention(nn.Module):
    """
    Self-attention over one token sequence.

    Args:
        dim: Token width.
        num_heads: Number of heads; must divide `dim`.
        qk_norm: Apply a LayerNorm over each head's queries and keys, before the rotation.
    """

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads {num_heads} must divide dim {dim}")
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(self.head_dim) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rope: RopeTable | None = None) -> Tensor:
        """
        Args:
            x: [B, N, dim].
            rope: Tables [N, head_dim] (see `rope.py`), or None for no position encoding.

        Returns:
            [B, N, dim].
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [B, heads, N, head_dim]
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rope(q, rope), apply_rope(k, rope)
        # under autocast the norms return float32 while v is half precision; the fused kernel wants one dtype
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return self.proj(out.transpose(1, 2).flatten(2))
