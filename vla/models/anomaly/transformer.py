"""UniAD's transformer (arXiv 2206.03687): neighbour-masked attention, and a decoder whose layers ask their own queries.

Architecture and parameter names are the published ones; tokens are batch-first here. Shapes: B samples, N places of the
map, D channels.
"""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.models.anomaly.attention import Attention, Dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": nn.functional.relu, "gelu": nn.functional.gelu}


class _Layer(nn.Module):
    """
    What encoder and decoder layers share: attention with a mask, and the MLP.

    Args:
        options: `hidden_dim`, `nhead`, `dim_feedforward`, `dropout`, `activation`, `normalize_before`.
    """

    def __init__(self, options: Any) -> None:
        super().__init__()
        dim = options.hidden_dim
        self.self_attn = self._attention(options)
        self.linear1 = nn.Linear(dim, options.dim_feedforward)
        self.linear2 = nn.Linear(options.dim_feedforward, dim)
        self.dropout = Dropout(options.dropout)
        self.activation = ACTIVATIONS[options.activation]
        self.normalize_before = options.normalize_before

    @staticmethod
    def _attention(options: Any) -> Attention:
        return Attention(options.hidden_dim, options.nhead, options.dropout)

    def _attend(self, attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Float [B, N, D]; `mask` is True where a query must not look."""
        return self.dropout(attention(query, key, value, mask))

    def _mlp(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class EncoderLayer(_Layer):
    """Self-attention, then the MLP."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.norm1, self.norm2 = nn.LayerNorm(options.hidden_dim), nn.LayerNorm(options.hidden_dim)

    def forward(self, x: Tensor, position: Tensor, mask: Tensor | None) -> Tensor:
        """Tokens [B, N, D], positions [N, D], mask bool [N, N] -> tokens [B, N, D]."""
        if self.normalize_before:
            normed = self.norm1(x)
            placed = normed + position
            x = x + self._attend(self.self_attn, placed, placed, normed, mask)
            return x + self._mlp(self.norm2(x))
        placed = x + position
        x = self.norm1(x + self._attend(self.self_attn, placed, placed, x, mask))
        return self.norm2(x + self._mlp(x))


class DecoderLayer(_Layer):
    """
    Attention of the layer's own learned query to the encoder's memory, then of that to the decoder layer before, then
    the MLP. A query knows nothing of the picture, so the layer can't pass an anomaly through.

    Args:
        options: As for all layers, and `num_queries`, N.
    """

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        dim = options.hidden_dim
        self.learned_embed = nn.Embedding(options.num_queries, dim)
        self.multihead_attn = self._attention(options)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(
        self, out: Tensor, memory: Tensor, position: Tensor, memory_mask: Tensor | None, out_mask: Tensor | None
    ) -> Tensor:
        """
        Args:
            out: [B, N, D] of the layer before; of the first layer: `memory`.
            memory: [B, N, D] of the encoder.
            position: [N, D].
            memory_mask, out_mask: Bool [N, N] of the two attentions.
        """
        query = self.learned_embed.weight[None]  # the same for all samples until they have been looked at
        if self.normalize_before:
            placed = self.norm1(query) + position
            query = query + self._attend(self.self_attn, placed, memory + position, memory, memory_mask)
            placed = self.norm2(query) + position
            query = query + self._attend(self.multihead_attn, placed, out + position, out, out_mask)
            return query + self._mlp(self.norm3(query))
        attended = self._attend(self.self_attn, query + position, memory + position, memory, memory_mask)
        query = self.norm1(query + attended)
        query = self.norm2(query + self._attend(self.multihead_attn, query + position, out + position, out, out_mask))
        return self.norm3(query + self._mlp(query))


class Encoder(nn.Module):
    """Encoder layers; a last norm only where norms come before."""

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.layers = _copies(EncoderLayer(options), options.num_encoder_layers)
        self.norm = nn.LayerNorm(options.hidden_dim) if options.normalize_before else nn.Identity()


class Decoder(nn.Module):
    """Decoder layers and a last norm."""

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.layers = _copies(DecoderLayer(options), options.num_decoder_layers)
        self.norm = nn.LayerNorm(options.hidden_dim)


class Transformer(nn.Module):
    """
    Args:
        options: Of the layers, and `num_encoder_layers`, `num_decoder_layers`.
    """

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(options), Decoder(options)
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, position: Tensor, masks: tuple[Tensor | None, Tensor | None, Tensor | None]) -> Tensor:
        """Tokens [B, N, D] rebuilt, [B, N, D]; `masks` are those of the encoder and of the decoder's attentions."""
        for layer in self.encoder.layers:
            x = self._run(layer, x, position, masks[0])
        memory = out = self.encoder.norm(x)
        for layer in self.decoder.layers:
            out = self._run(layer, out, memory, position, masks[1], masks[2])
        return self.decoder.norm(out)

    def _run(self, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
        if self.gradient_checkpointing and self.training:
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


def _copies(layer: nn.Module, count: int) -> nn.ModuleList:
    """Layers that start alike, as published; what is drawn afterwards differs."""
    return nn.ModuleList(copy.deepcopy(layer) for _ in range(count))
