"""
layers.py

Pieces that the encoder, the alternating-attention trunk and the camera head share: MLP, LayerScale, transformer block,
and the walk that initialises a whole model.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.models.vggt.attention import Attention
from vla.models.vggt.rope import RopeTable


class Mlp(nn.Module):
    """Linear, exact GELU, linear: [..., in_dim] -> [..., out_dim]."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, in_dim if out_dim is None else out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_dim] to [..., out_dim]."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor per channel, small at first so that a fresh block is nearly the identity (arXiv 2103.17239)."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.init = init
        self.gamma = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every factor to the initial value."""
        nn.init.constant_(self.gamma, self.init)

    def forward(self, x: Tensor) -> Tensor:
        """Scale [..., dim] channel by channel."""
        return x * self.gamma


class Block(nn.Module):
    """
    Pre-norm transformer block with LayerScale.

    Args:
        dim: Token width.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP in units of `dim`.
        layer_scale_init: Initial LayerScale.
        qk_norm: Normalise queries and keys.
        norm_eps: Epsilon of the two block norms (the query/key norms keep 1e-5).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        layer_scale_init: float = 0.01,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qk_norm=qk_norm)
        self.ls1 = LayerScale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim, layer_scale_init)

    def forward(self, x: Tensor, rope: RopeTable | None = None) -> Tensor:
        """Map [B, N, dim] to [B, N, dim]; `rope` as in `Attention`."""
        x = x + self.ls1(self.attn(self.norm1(x), rope))
        return x + self.ls2(self.mlp(self.norm2(x)))


def run_block(block: nn.Module, x: Tensor, rope: RopeTable | None, checkpointing: bool) -> Tensor:
    """Apply a block, recomputing it in the backward pass when `checkpointing` is set and gradients are recorded."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, x, rope, use_reentrant=False)
    return block(x, rope)


def run_blocks(blocks: Iterable[nn.Module], x: Tensor, checkpointing: bool) -> Tensor:
    """Apply blocks one after the other without position encoding."""
    for block in blocks:
        x = run_block(block, x, None, checkpointing)
    return x


@torch.no_grad()
def reset_all(module: nn.Module) -> None:
    """
    Initialise a module tree in place, children before parents.

    The order is fixed by the tree, so equal seeds give equal weights; a parent may then set its children differently.
    """
    for child in module.children():
        reset_all(child)
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
