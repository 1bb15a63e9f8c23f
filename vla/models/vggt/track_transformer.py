"""
track_transformer.py

The tracker's update network (after CoTracker, arXiv 2307.07635, and VGGSfM, arXiv 2312.04563): attention over time for
each point, and over points for each frame through a small set of virtual tracks.

Its blocks add the attention to the NORMALISED input, not to the raw one; the published weights were trained that way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.models.vggt.layers import Mlp
from vla.models.vggt.spec import VGGTSpec

_MLP_RATIO = 4


class PackedAttention(nn.Module):
    """Multi-head attention with one packed projection, named like PyTorch's own module: dim -> dim."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and zero biases, PyTorch's choice for its own module."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Queries [M, K, dim] attend to context [M, L, dim]; returns [M, K, dim]."""
        q_weight, k_weight, v_weight = self.in_proj_weight.chunk(3)
        q_bias, k_bias, v_bias = self.in_proj_bias.chunk(3)
        q = self._split(F.linear(queries, q_weight, q_bias))
        k = self._split(F.linear(context, k_weight, k_bias))
        v = self._split(F.linear(context, v_weight, v_bias))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SelfBlock(nn.Module):
    """Self-attention block: [M, K, dim] -> [M, K, dim]."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = PackedAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim * _MLP_RATIO)

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, K, dim] to [M, K, dim]."""
        x = self.norm1(x)
        x = x + self.attn(x, x)
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """Cross-attention block: x [M, K, dim] reads from context [M, L, dim]."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.cross_attn = PackedAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim * _MLP_RATIO)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map x [M, K, dim] to [M, K, dim]."""
        x = self.norm1(x)
        x = x + self.cross_attn(x, self.norm_context(context))
        return x + self.mlp(self.norm2(x))


class UpdateFormer(nn.Module):
    """
    Update network of the tracker.

    Args:
        spec: Sizes of the model.
        in_dim: Width of a point's input token.
        out_dim: Width of its update.
    """

    def __init__(self, spec: VGGTSpec, in_dim: int, out_dim: int) -> None:
        super().__init__()
        dim, heads, depth = spec.track_hidden_size, spec.track_num_heads, spec.track_depth
        self.input_norm = nn.LayerNorm(in_dim)
        self.input_transform = nn.Linear(in_dim, dim)
        self.output_norm = nn.LayerNorm(dim)
        self.flow_head = nn.Linear(dim, out_dim)
        self.virual_tracks = nn.Parameter(torch.empty(1, spec.track_num_virtual, 1, dim))  # misspelt in the weights
        self.time_blocks = nn.ModuleList(SelfBlock(dim, heads) for _ in range(depth))
        self.space_virtual_blocks = nn.ModuleList(SelfBlock(dim, heads) for _ in range(depth))
        self.space_point2virtual_blocks = nn.ModuleList(CrossBlock(dim, heads) for _ in range(depth))
        self.space_virtual2point_blocks = nn.ModuleList(CrossBlock(dim, heads) for _ in range(depth))

    def reset_parameters(self) -> None:
        """Virtual tracks start as unit normals; a small update head keeps the first estimates near the query."""
        nn.init.normal_(self.virual_tracks)
        nn.init.trunc_normal_(self.flow_head.weight, std=0.001)
        nn.init.zeros_(self.flow_head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """
        Args:
            x: [B, N, S, in_dim] tokens of N points in S frames.

        Returns:
            Updates [B, N, S, out_dim].
        """
        batch, num_points, frames, _ = x.shape
        start = self.input_transform(self.input_norm(x))
        virtual = self.virual_tracks.expand(batch, -1, frames, -1).to(start.dtype)
        tokens = torch.cat((start, virtual), dim=1)
        blocks = zip(
            self.time_blocks,
            self.space_virtual2point_blocks,
            self.space_virtual_blocks,
            self.space_point2virtual_blocks,
            strict=True,
        )
        for time_block, gather, mix, spread in blocks:
            tokens = time_block(tokens.flatten(0, 1)).unflatten(0, (batch, -1))
            by_frame = tokens.transpose(1, 2).flatten(0, 1)  # [B * S, N + V, dim]
            points, virtual = by_frame[:, :num_points], by_frame[:, num_points:]
            virtual = mix(gather(virtual, points))
            points = spread(points, virtual)
            tokens = torch.cat((points, virtual), dim=1).unflatten(0, (batch, frames)).transpose(1, 2)
        return self.flow_head(self.output_norm(tokens[:, :num_points] + start))
