"""A LLaMA-family decoder under nanoVLM's names, for packed sequences and for one token at a time.

B sequences, L tokens, K keys, H query heads, G key and value heads, D channels of a head, V rows of the token table.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.conf.models.nanovlm import NanoLMConfig
from vla.models.components.document_attention import Visibility, attend

Rotation = tuple[Tensor, Tensor]  # cosines and sines, each [B, L, 1, D]
KeyValues = tuple[Tensor, Tensor]  # keys and values of a layer, each [B, K, G, D]


class RotaryEmbedding(nn.Module):
    """Rotary positions. A sequence longer than the model was trained for turns more slowly, as a whole."""

    inv_freq: Tensor

    def __init__(self, config: NanoLMConfig) -> None:
        super().__init__()
        size = config.hidden_size // config.num_heads
        exponents = torch.arange(0, size, 2, dtype=torch.float32) / size
        self.register_buffer("inv_freq", 1.0 / config.rope_theta**exponents, persistent=False)
        self.max_position, self.scale = config.max_position, config.rope_scale

    def forward(self, position_ids: Tensor, largest: int, dtype: torch.dtype) -> Rotation:
        """
        Args:
            position_ids: int64 [B, L].
            largest: The largest position of all; whoever calls knows it without asking the device.
            dtype: Of the result.
        """
        frequencies = self.inv_freq.float()
        if largest >= self.max_position:
            frequencies = frequencies / ((largest + 1) / self.max_position)
        angles = position_ids[..., None].float() * frequencies
        angles = torch.cat([angles, angles], dim=-1)[:, :, None]
        return (angles.cos() * self.scale).to(dtype), (angles.sin() * self.scale).to(dtype)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn pairs of channels (i, i + D / 2) of x [B, L, *, D]."""
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Causal self-attention with fewer key and value heads than query heads."""

    def __init__(self, config: NanoLMConfig) -> None:
        super().__init__()
        width, self.size = config.hidden_size, config.hidden_size // config.num_heads
        self.dropout = config.dropout
        self.attend = attend
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, config.num_kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(width, config.num_kv_heads * self.size, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, rotation: Rotation, seen: Visibility, past: KeyValues | None
    ) -> tuple[Tensor, KeyValues]:
        query, key, value = (
            projection(x).unflatten(-1, (-1, self.size)) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        # Autocast turns values into half precision, and rotations are float32: not every attention takes both.
        query, key = rotate(query, rotation).to(value.dtype), rotate(key, rotation).to(value.dtype)
        if past is not None:
            key, value = torch.cat([past[0], key], dim=1), torch.cat([past[1], value], dim=1)
        dropout = self.dropout if self.training else 0.0
        out = self.out_proj(self.attend(query, key, value, seen, dropout).flatten(2))
        return F.dropout(out, dropout), (key, value)


class MLP(nn.Module):
    """A gated MLP (SwiGLU)."""

    def __init__(self, config: NanoLMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside the identity."""

    def __init__(self, config: NanoLMConfig) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, rotation: Rotation, seen: Visibility, past: KeyValues | None = None
    ) -> tuple[Tensor, KeyValues]:
        attended, present = self.attn(self.norm1(x), rotation, seen, past)
        x = x + attended
        return x + self.mlp(self.norm2(x)), present


class NanoLM(nn.Module):
    """
    Token table, blocks, norm and output layer. Parameters are float32 and at random.

    Args:
        config: Sizes.
    """

    def __init__(self, config: NanoLMConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        rows = config.vocab_size + config.num_extra_tokens
        self.token_embedding = nn.Embedding(rows, config.hidden_size)
        self.rotary_embd = RotaryEmbedding(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.head = nn.Linear(config.hidden_size, rows, bias=False)
        self.apply(_draw)
        if config.tie_embeddings:
            self.head.weight = self.token_embedding.weight

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embeddings [B, L, width] of ids int64 [B, L]."""
        return self.token_embedding(input_ids)

    def forward(
        self,
        embeds: Tensor,
        position_ids: Tensor,
        largest_position: int,
        seen: Visibility,
        cache: list[KeyValues] | None = None,
    ) -> Tensor:
        """
        Last hidden states, normalised.

        Args:
            embeds: [B, L, width].
            position_ids: int64 [B, L].
            largest_position: Of all `position_ids`.
            seen: Who sees whom.
            cache: Keys and values by layer of what came before, empty at first; is brought up to date. None keeps
                nothing.

        Returns:
            [B, L, width]; what stands at padding means nothing.
        """
        x: Any = embeds
        rotation = self.rotary_embd(position_ids, largest_position, embeds.dtype)
        past: list[Any] = cache or [None] * len(self.blocks)
        present = []
        for block, before in zip(self.blocks, past, strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled() and cache is None:
                x, _ = checkpoint(block, x, rotation, seen, use_reentrant=False)
            else:
                x, kept = block(x, rotation, seen, before)
                if cache is not None:
                    present.append(kept)
        if cache is not None:
            cache[:] = present
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores [..., V] of the next token, for hidden states [..., width]."""
        return self.head(hidden)

    def fsdp_units(self) -> list[nn.Module]:
        """The blocks, in the order in which they run."""
        return list(self.blocks)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute blocks in the backward pass."""
        self.gradient_checkpointing = enabled

    def keep_attention_as_it_is(self) -> None:
        """Let `torch.compile` pass over attention: documents have other lengths in every batch, and it would compile
        anew for each.
        """
        for module in self.modules():
            if isinstance(module, Attention):
                module.attend = torch.compiler.disable(attend)


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
