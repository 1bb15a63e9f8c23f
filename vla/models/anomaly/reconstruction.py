"""UniAD's reconstruction of features, and the map of anomaly that its error makes."""

from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from vla.models.anomaly.part import Part
from vla.models.anomaly.positions import LearnedPositions, SinePositions, blocked_neighbors
from vla.models.anomaly.transformer import Transformer

POSITIONS = {"learned": LearnedPositions, "sine": SinePositions}
INITIALIZERS = {"xavier_uniform": nn.init.xavier_uniform_, "xavier_normal": nn.init.xavier_normal_}
_SEED_BITS = 2**63 - 1


class Reconstruction(Part):
    """
    Rebuilds a feature map from what a transformer sees of it. Anomalies are what it has not learned to rebuild.

    Args:
        options: Fields of `vla.conf.models.anomaly_parts.ReconstructionConfig`; `inplanes` and `instrides` with one
            number each; `input_size`.

    Attributes:
        outplanes, outstrides: as they came in.
    """

    def __init__(self, options: Any) -> None:
        super().__init__()
        (channels,), (stride,) = options.inplanes, options.instrides
        self.outplanes, self.outstrides = [channels], [stride]
        self.feature_size = (options.input_size[0] // stride, options.input_size[1] // stride)
        self.jitter = options.feature_jitter
        height, width = self.feature_size
        self.pos_embed = POSITIONS[options.pos_embed_type](self.feature_size, options.hidden_dim)
        self.transformer = Transformer(EasyDict(options, num_queries=height * width))
        self.input_proj = nn.Linear(channels, options.hidden_dim)
        self.output_proj = nn.Linear(options.hidden_dim, channels)
        blocked, self.masked = None, (False, False, False)
        if options.neighbor_mask is not None:
            blocked = blocked_neighbors(self.feature_size, tuple(options.neighbor_mask.neighbor_size))
            self.masked = tuple(options.neighbor_mask.mask)
        self.register_buffer("blocked", blocked, persistent=False)
        initialize(self, options.initializer)

    def forward(self, features: Tensor, rng_seeds: Tensor | None = None) -> Tensor:
        """
        Args:
            features: Float [B, C, H, W] of the size that the net was made for.
            rng_seeds: Int64 [B] for the jitter while training; None draws from PyTorch's generator.

        Returns:
            The features rebuilt, [B, C, H, W].

        Raises:
            ValueError: The map has another size.
        """
        if tuple(features.shape[-2:]) != self.feature_size:
            raise ValueError(f"features: must be {self.feature_size} places, got {tuple(features.shape[-2:])}")
        tokens = features.flatten(2).transpose(1, 2)
        if self.training and self.jitter is not None:
            tokens = jitter_features(tokens, rng_seeds, self.jitter.scale, self.jitter.prob)
        masks = tuple(self.blocked if masked else None for masked in self.masked)
        rebuilt = self.transformer(self.input_proj(tokens), self.pos_embed(), masks)
        return self.output_proj(rebuilt).transpose(1, 2).unflatten(2, self.feature_size)

    def fsdp_units(self) -> list[nn.Module]:
        """See `Part`: the transformer's layers."""
        return [*self.transformer.encoder.layers, *self.transformer.decoder.layers]

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """See `Part`: recompute the transformer's layers."""
        self.transformer.gradient_checkpointing = enabled


def add_jitter(tokens: Tensor, noise: Tensor, scale: float) -> Tensor:
    """Tokens [..., C] with noise [..., C] in units of scale x the token's norm / C."""
    return tokens + noise * (scale * tokens.norm(dim=-1, keepdim=True) / tokens.shape[-1])


def jitter_features(tokens: Tensor, seeds: Tensor | None, scale: float, prob: float) -> Tensor:
    """
    Noise on each sample's tokens with probability `prob`.

    The published code decides once for a batch and draws from the global generator; here each sample has its own seed,
    so that the noise does not depend on the batch, its process or the device.

    Args:
        tokens: Float [B, N, C].
        seeds: Int64 [B]; None takes fresh ones from PyTorch's generator.
    """
    if seeds is None:
        seeds = torch.randint(_SEED_BITS, (len(tokens),))
    generator = torch.Generator()
    noise = torch.zeros(tokens.shape)
    for row, seed in zip(noise, seeds.tolist(), strict=True):
        generator.manual_seed(seed & _SEED_BITS)
        if prob >= 1 or torch.rand((), generator=generator) < prob:
            row.normal_(generator=generator)
    return add_jitter(tokens, noise.to(tokens.device), scale)


def anomaly_map(rebuilt: Tensor, features: Tensor, stride: int) -> Tensor:
    """Distance of each place's features [B, C, H, W] to the rebuilt ones, as pictures: float32 [B, H * s, W * s]."""
    distance = (rebuilt.float() - features.float()).square().sum(dim=1, keepdim=True).sqrt()
    return nn.functional.interpolate(distance, scale_factor=float(stride), mode="bilinear", align_corners=True)[:, 0]


def initialize(module: nn.Module, initializer: str) -> None:
    """Draw the weights of all linear layers (outputs of attentions too) anew; their biases start at 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            INITIALIZERS[initializer](part.weight)
            nn.init.zeros_(part.bias)
