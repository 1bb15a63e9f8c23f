"""
dinov2.py

Patch embedding: the DINOv2 vision transformer with register tokens (arXiv 2304.07193, 2309.16588), or one strided
convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.models.vggt.layers import Block, run_blocks
from vla.models.vggt.spec import VGGTSpec

_NORM_EPS = 1e-6
_INIT_STD = 0.02
_TOKEN_STD = 1e-6


class PatchEmbed(nn.Module):
    """Non-overlapping patches through one convolution: [B, 3, H, W] -> [B, (H / p) * (W / p), dim], row by row."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images [B, 3, H, W]; H and W must be multiples of the patch size."""
        return self.proj(images).flatten(2).transpose(1, 2)


class DinoVisionTransformer(nn.Module):
    """
    DINOv2 encoder that returns normalised patch tokens.

    `mask_token` belongs to the published weights; it serves masked pre-training only and stays frozen here.

    Args:
        img_size: Side in pixels of the images that the position table is trained for.
        patch_size: Side in pixels of a patch.
        dim: Token width.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs in units of `dim`.
        num_register_tokens: Register tokens between the class token and the patches.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        num_register_tokens: int,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.grid = img_size // patch_size
        self.num_prefix = 1 + num_register_tokens
        self.gradient_checkpointing = False
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid**2, dim))
        self.register_tokens = nn.Parameter(torch.empty(1, num_register_tokens, dim))
        self.mask_token = nn.Parameter(torch.empty(1, dim), requires_grad=False)
        self.patch_embed = PatchEmbed(patch_size, dim)
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, layer_scale_init=1.0, norm_eps=_NORM_EPS) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=_NORM_EPS)

    def reset_parameters(self) -> None:
        """Initialise as DINOv2 does: truncated normals (std 0.02) for linear weights and positions, zero biases."""
        nn.init.normal_(self.cls_token, std=_TOKEN_STD)
        nn.init.trunc_normal_(self.pos_embed, std=_INIT_STD)
        nn.init.normal_(self.register_tokens, std=_TOKEN_STD)
        nn.init.zeros_(self.mask_token)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                nn.init.zeros_(module.bias)

    def interpolated_positions(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """
        Position table for a patch grid.

        Args:
            height: Rows of the grid.
            width: Columns of the grid.

        Returns:
            The class token's position [1, 1, dim] and the patches' [1, height * width, dim]. Any grid but the trained
            one is resized bicubically with antialiasing, in float32.
        """
        cls_position, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if height == self.grid and width == self.grid:
            return cls_position, patches
        table = patches.float().unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
        return cls_position, table.flatten(2).transpose(1, 2).to(patches.dtype)

    def forward(self, images: Tensor) -> Tensor:
        """
        Args:
            images: [B, 3, H, W], ImageNet-normalised.

        Returns:
            [B, (H / p) * (W / p), dim]; class and register tokens are dropped.
        """
        height, width = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        patches = self.patch_embed(images)
        cls_position, patch_positions = self.interpolated_positions(height, width)
        prefix = torch.cat((self.cls_token + cls_position, self.register_tokens), dim=1)
        prefix = prefix.expand(len(patches), -1, -1)
        x = torch.cat((prefix, patches + patch_positions), dim=1)
        x = run_blocks(self.blocks, x, self.gradient_checkpointing)
        return self.norm(x[:, self.num_prefix :])


def get_patch_embed(spec: VGGTSpec) -> PatchEmbed | DinoVisionTransformer:
    """Build the patch embedding that a spec names."""
    if spec.patch_embed == "conv":
        return PatchEmbed(spec.patch_size, spec.embed_dim)
    depth, num_heads = spec.dino_size
    return DinoVisionTransformer(
        spec.img_size, spec.patch_size, spec.embed_dim, depth, num_heads, spec.mlp_ratio, spec.num_register_tokens
    )
