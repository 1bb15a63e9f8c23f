"""
aggregator.py

The trunk of VGGT (arXiv 2503.11651): patch tokens of all frames pass through attention inside each frame and attention
across all frames in turn. Only the outputs that a caller names are built.

Shapes: B batch, S frames, P tokens per frame (camera, registers, patches), C trunk width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vla.models.vggt.dinov2 import get_patch_embed
from vla.models.vggt.layers import Block, run_block
from vla.models.vggt.rope import RopeTables
from vla.models.vggt.spec import VGGTSpec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_TOKEN_STD = 1e-6


class AggregatorOutput(NamedTuple):
    """What the trunk hands out."""

    tokens: dict[int, Tensor]  # layer -> [B, S, P, 2C], frame and global output side by side
    camera_tokens: Tensor | None  # [B, S, 2C], token 0 of the last layer
    patch_start_idx: int  # index of the first patch token in P


class Aggregator(nn.Module):
    """
    Alternating attention over the tokens of all frames.

    The first frame has its own camera and register tokens, which is all that marks it as the reference frame.

    Args:
        spec: Sizes of the model.
    """

    def __init__(self, spec: VGGTSpec) -> None:
        super().__init__()
        self.patch_size = spec.patch_size
        self.patch_start_idx = spec.patch_start_idx
        self.gradient_checkpointing = False
        self.camera_token = nn.Parameter(torch.empty(1, 2, 1, spec.embed_dim))
        self.register_token = nn.Parameter(torch.empty(1, 2, spec.num_register_tokens, spec.embed_dim))
        self.patch_embed = get_patch_embed(spec)
        self.frame_blocks = nn.ModuleList(_trunk_block(spec) for _ in range(spec.depth))
        self.global_blocks = nn.ModuleList(_trunk_block(spec) for _ in range(spec.depth))
        self.rope = RopeTables(spec.embed_dim // spec.num_heads, spec.rope_freq, spec.patch_start_idx)
        # constants, not weights: kept out of the state dict as in the published one
        self.register_buffer("_resnet_mean", torch.empty(1, 1, 3, 1, 1), persistent=False)
        self.register_buffer("_resnet_std", torch.empty(1, 1, 3, 1, 1), persistent=False)

    def reset_parameters(self) -> None:
        """Initialise the special tokens and the constants."""
        nn.init.normal_(self.camera_token, std=_TOKEN_STD)
        nn.init.normal_(self.register_token, std=_TOKEN_STD)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Fill the normalisation constants (float32, on the device of the weights), also after `to_empty`."""
        device = self.camera_token.device
        self._resnet_mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float32, device=device).view(1, 1, 3, 1, 1)
        self._resnet_std = torch.tensor(IMAGENET_STD, dtype=torch.float32, device=device).view(1, 1, 3, 1, 1)

    def forward(self, images: Tensor, layers: Iterable[int], camera_tokens: bool = False) -> AggregatorOutput:
        """
        Args:
            images: [B, S, 3, H, W] floating point, RGB in [0, 1]; H and W multiples of the patch size.
            layers: Block pairs whose outputs to return, negative ones counted from the end. Pairs after the last one
                needed are not run.
            camera_tokens: Also return the last layer's camera tokens.

        Returns:
            The named outputs.

        Raises:
            ValueError: `images` has another shape or type, or a layer does not exist.
        """
        wanted = self.resolve_layers(layers)
        self._check_images(images)
        batch, frames = images.shape[:2]
        height, width = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        x = self._embed(images)
        num_tokens, dim = x.shape[1:]
        frame_rope = self.rope.get(height, width, 1, images.device)
        global_rope = self.rope.get(height, width, frames, images.device)
        depth = len(self.frame_blocks)
        num_run = depth if camera_tokens else max(wanted, default=-1) + 1
        tokens: dict[int, Tensor] = {}
        camera: Tensor | None = None
        for index in range(num_run):
            x = x.view(batch * frames, num_tokens, dim)
            x = run_block(self.frame_blocks[index], x, frame_rope, self.gradient_checkpointing)
            within = x.view(batch, frames, num_tokens, dim)
            x = x.view(batch, frames * num_tokens, dim)
            x = run_block(self.global_blocks[index], x, global_rope, self.gradient_checkpointing)
            across = x.view(batch, frames, num_tokens, dim)
            if index in wanted:
                tokens[index] = torch.cat((within, across), dim=-1)
            if camera_tokens and index == depth - 1:
                camera = torch.cat((within[:, :, 0], across[:, :, 0]), dim=-1)
        return AggregatorOutput(tokens, camera, self.patch_start_idx)

    def resolve_layers(self, layers: Iterable[int]) -> tuple[int, ...]:
        """
        Layer numbers as 0..depth-1, in the order given and without repeats.

        Raises:
            ValueError: A layer does not exist.
        """
        depth = len(self.frame_blocks)
        layers = tuple(layers)
        for layer in layers:
            if not -depth <= layer < depth:
                raise ValueError(f"layer {layer} does not exist: the aggregator has {depth} block pairs")
        return tuple(dict.fromkeys(layer % depth for layer in layers))

    def _check_images(self, images: Tensor) -> None:
        if images.ndim != 5 or images.shape[2] != 3:
            raise ValueError(f"images must be [B, S, 3, H, W], got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point in [0, 1], got {images.dtype}")
        if images.shape[-2] % self.patch_size or images.shape[-1] % self.patch_size:
            raise ValueError(
                f"image sides must be multiples of {self.patch_size}, got {images.shape[-2]} x {images.shape[-1]}"
            )

    def _embed(self, images: Tensor) -> Tensor:
        """Tokens [B * S, P, C] of normalised images, special tokens first."""
        batch, frames = images.shape[:2]
        normalised = ((images - self._resnet_mean) / self._resnet_std).flatten(0, 1)
        patches = self.patch_embed(normalised.to(self.camera_token.dtype))
        special = torch.cat((self.camera_token, self.register_token), dim=2)  # [1, 2, 1 + R, C]
        first, others = special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)
        special = torch.cat((first, others), dim=1).expand(batch, -1, -1, -1).flatten(0, 1)
        return torch.cat((special, patches), dim=1)


def _trunk_block(spec: VGGTSpec) -> Block:
    return Block(spec.embed_dim, spec.num_heads, spec.mlp_ratio, spec.layer_scale_init, qk_norm=True)
