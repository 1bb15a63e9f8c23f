"""Fusion of language and geometry tokens by attention. B batch, L language tokens, N geometry tokens, D width."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.conf.models.components import FusionConfig
from vla.models.components.attention import CrossAttentionBlock, MultiHeadAttention


class FusionOutput(NamedTuple):
    """What the fusion hands to an action head."""

    pooled: Tensor  # [B, D]
    tokens: Tensor  # [B, T, D]
    mask: Tensor | None  # bool [B, T], False where a token is padding; None: all are real


class _Fusion(nn.Module):
    """Projections, attention pooling and checkpointing, which both directions share."""

    layers: nn.ModuleList

    def __init__(self, config: FusionConfig, language_dim: int, geometry_dim: int) -> None:
        super().__init__()
        dim = config.dim
        self.gradient_checkpointing = False
        self.language_projection = nn.Sequential(nn.Linear(language_dim, dim), nn.LayerNorm(dim))
        self.geometry_projection = nn.Sequential(nn.Linear(geometry_dim, dim), nn.LayerNorm(dim))
        self.pool_query = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.normal_(self.pool_query, std=0.02)
        self.pool = MultiHeadAttention(dim, config.num_heads)
        self.output_norm = nn.LayerNorm(dim)
        self.output_projection = nn.Linear(dim, dim)

    def fsdp_units(self) -> list[nn.Module]:
        """The layers, in the order in which they run."""
        return list(self.layers)

    def _run(self, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def _finish(self, tokens: Tensor, mask: Tensor | None) -> FusionOutput:
        tokens = self.output_norm(tokens)
        pooled = self.pool(self.pool_query.expand(len(tokens), -1, -1), tokens, mask).squeeze(1)
        return FusionOutput(self.output_projection(pooled), tokens, mask)


class CrossFusion(_Fusion):
    """
    Language tokens attend to themselves and query the geometry; a learned query pools them (AtlasVLA).

    Args:
        config: Sizes.
        language_dim: Width of the language tokens.
        geometry_dim: Width of the geometry tokens.
    """

    def __init__(self, config: FusionConfig, language_dim: int, geometry_dim: int) -> None:
        super().__init__(config, language_dim, geometry_dim)
        self.layers = nn.ModuleList(
            CrossAttentionBlock(config.dim, config.num_heads, config.mlp_ratio, config.dropout)
            for _ in range(config.num_layers)
        )

    def forward(self, language: Tensor, language_mask: Tensor, geometry: Tensor) -> FusionOutput:
        """
        Args:
            language: [B, L, language_dim].
            language_mask: bool [B, L], False for padding; at least one True per row.
            geometry: [B, N, geometry_dim].

        Returns:
            Pooled [B, D], and the language tokens [B, L, D] with their mask.
        """
        tokens, context = self.language_projection(language), self.geometry_projection(geometry)
        for layer in self.layers:
            tokens = self._run(layer, tokens, context, language_mask, None)
        return self._finish(tokens, language_mask)


class BidirectionalFusion(_Fusion):
    """
    Language and geometry query each other; learned queries then summarise both sides (Perceiver, arXiv 2103.03206).

    Args:
        config: Sizes; `num_queries` tokens come out.
        language_dim: Width of the language tokens.
        geometry_dim: Width of the geometry tokens.
    """

    def __init__(self, config: FusionConfig, language_dim: int, geometry_dim: int) -> None:
        super().__init__(config, language_dim, geometry_dim)
        sizes = (config.dim, config.num_heads, config.mlp_ratio, config.dropout)
        self.language_layers = nn.ModuleList(CrossAttentionBlock(*sizes) for _ in range(config.num_layers))
        self.geometry_layers = nn.ModuleList(CrossAttentionBlock(*sizes) for _ in range(config.num_layers))
        self.queries = nn.Parameter(torch.empty(1, config.num_queries, config.dim))
        nn.init.normal_(self.queries, std=0.02)
        self.context_norm = nn.LayerNorm(config.dim)
        self.summary = CrossAttentionBlock(*sizes)

    def fsdp_units(self) -> list[nn.Module]:
        """The layers, in the order in which they run."""
        pairs = zip(self.language_layers, self.geometry_layers, strict=True)
        return [*(layer for pair in pairs for layer in pair), self.summary]

    def forward(self, language: Tensor, language_mask: Tensor, geometry: Tensor) -> FusionOutput:
        """
        Args:
            language: [B, L, language_dim].
            language_mask: bool [B, L], False for padding; at least one True per row.
            geometry: [B, N, geometry_dim].

        Returns:
            Pooled [B, D], and the queries' tokens [B, num_queries, D], all of them real.
        """
        words, places = self.language_projection(language), self.geometry_projection(geometry)
        for ask_places, ask_words in zip(self.language_layers, self.geometry_layers, strict=True):
            updated = self._run(ask_places, words, places, language_mask, None)
            places = self._run(ask_words, places, words, None, language_mask)
            words = updated
        context = self.context_norm(torch.cat((words, places), dim=1))
        seen = torch.cat((language_mask, language_mask.new_ones(places.shape[:2])), dim=1)
        queries = self.queries.expand(len(words), -1, -1)
        return self._finish(self._run(self.summary, queries, context, None, seen), None)


def get_fusion(config: FusionConfig, language_dim: int, geometry_dim: int) -> CrossFusion | BidirectionalFusion:
    """The fusion that `config.direction` names."""
    kind = CrossFusion if config.direction == "cross" else BidirectionalFusion
    return kind(config, language_dim, geometry_dim)
