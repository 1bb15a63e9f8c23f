"""
dpt_head.py

Dense prediction head (DPT, arXiv 2103.13413) as VGGT uses it: four token levels are put back on the patch grid,
brought to four resolutions and fused from deep to shallow into per-pixel values with a confidence, or into a feature
map.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vla.models.vggt.dpt_fusion import FusionBlock, UVEmbedding, resize
from vla.models.vggt.spec import VGGTSpec

_HIDDEN_CHANNELS = 32


def depth_activation(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Split raw [..., 2] into depth exp(x) [..., 1] (> 0) and confidence 1 + exp(c) [...] (> 1)."""
    return raw[..., :-1].exp(), 1 + raw[..., -1].exp()


def point_activation(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Split raw [..., 4] into points sign(x) (exp|x| - 1) [..., 3] and confidence 1 + exp(c) [...] (> 1)."""
    values = raw[..., :-1]
    return values.sign() * values.abs().expm1(), 1 + raw[..., -1].exp()


class DPTScratch(nn.Module):
    """The fusion path's layers, under their published names; `forward` lives in `DPTHead`."""

    def __init__(self, in_channels: tuple[int, ...], features: int, output_dim: int | None) -> None:
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(channels, features, 3, padding=1, bias=False) for channels in in_channels
        )
        self.refinenet1, self.refinenet2, self.refinenet3 = (FusionBlock(features) for _ in range(3))
        self.refinenet4 = FusionBlock(features, has_skip=False)
        reduced = features if output_dim is None else features // 2
        self.output_conv1 = nn.Conv2d(features, reduced, 3, padding=1)
        if output_dim is not None:
            self.output_conv2 = nn.Sequential(
                nn.Conv2d(reduced, _HIDDEN_CHANNELS, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(_HIDDEN_CHANNELS, output_dim, 1),
            )


class DPTHead(nn.Module):
    """
    Dense head over four layers of trunk tokens.

    Args:
        spec: Sizes of the model.
        output_dim: Channels of the per-pixel output, the last one for the confidence; None makes a feature extractor.
        features: Channels of the fusion path; None takes the spec's.
        down_ratio: The output is this many times smaller than the image.
        uv_embedding: Add a fixed encoding of image coordinates at every level.
    """

    def __init__(
        self,
        spec: VGGTSpec,
        output_dim: int | None,
        features: int | None = None,
        down_ratio: int = 1,
        uv_embedding: bool = True,
    ) -> None:
        super().__init__()
        channels = spec.dpt_out_channels
        self.layers = spec.dpt_layers
        self.patch_size = spec.patch_size
        self.down_ratio = down_ratio
        self.frames_chunk = spec.dpt_frames_chunk
        self.uv_embedding = UVEmbedding() if uv_embedding else None
        self.norm = nn.LayerNorm(spec.feature_dim)
        self.projects = nn.ModuleList(nn.Conv2d(spec.feature_dim, out, 1) for out in channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            )
        )
        self.scratch = DPTScratch(channels, features or spec.dpt_features, output_dim)

    def forward(self, tokens: Mapping[int, Tensor], patch_start_idx: int, image_size: tuple[int, int]) -> Tensor:
        """
        Args:
            tokens: Layer -> [B, S, P, 2C]; must hold `self.layers`.
            patch_start_idx: Index of the first patch token in P.
            image_size: (H, W) of the images in pixels.

        Returns:
            Raw output, channels last [B, S, H / down_ratio, W / down_ratio, output_dim]; a feature extractor returns
            [B, S, features, H / down_ratio, W / down_ratio].
        """
        levels = [tokens[layer][:, :, patch_start_idx:] for layer in self.layers]
        batch, frames = levels[0].shape[:2]
        levels = [level.flatten(0, 1) for level in levels]
        chunks = [
            self._forward_frames([level[start : start + self.frames_chunk] for level in levels], image_size)
            for start in range(0, batch * frames, self.frames_chunk)
        ]
        return torch.cat(chunks).unflatten(0, (batch, frames))

    def _forward_frames(self, levels: list[Tensor], image_size: tuple[int, int]) -> Tensor:
        """Dense output of N frames from four levels of patch tokens [N, h * w, 2C]."""
        height, width = image_size
        grid = (height // self.patch_size, width // self.patch_size)
        aspect = width / height
        maps = []
        for level, project, resize_layer in zip(levels, self.projects, self.resize_layers, strict=True):
            x = self.norm(level).transpose(1, 2).unflatten(2, grid)
            maps.append(resize_layer(self._add_uv(project(x), aspect)))
        x = self._add_uv_resized(self._fuse(maps), grid, aspect)
        if not hasattr(self.scratch, "output_conv2"):
            return x
        return self.scratch.output_conv2(x).permute(0, 2, 3, 1)

    def _fuse(self, maps: list[Tensor]) -> Tensor:
        """Merge the four maps from deep to shallow; the result is twice as large as the first."""
        scratch = self.scratch
        first, second, third, fourth = (
            conv(level)
            for conv, level in zip(
                (scratch.layer1_rn, scratch.layer2_rn, scratch.layer3_rn, scratch.layer4_rn), maps, strict=True
            )
        )
        x = scratch.refinenet4(fourth, size=third.shape[-2:])
        x = scratch.refinenet3(x, third, size=second.shape[-2:])
        x = scratch.refinenet2(x, second, size=first.shape[-2:])
        x = scratch.refinenet1(x, first, size=(2 * first.shape[-2], 2 * first.shape[-1]))
        return scratch.output_conv1(x)

    def _add_uv_resized(self, x: Tensor, grid: tuple[int, int], aspect: float) -> Tensor:
        size = (grid[0] * self.patch_size // self.down_ratio, grid[1] * self.patch_size // self.down_ratio)
        return self._add_uv(resize(x, size), aspect)

    def _add_uv(self, x: Tensor, aspect: float) -> Tensor:
        return x if self.uv_embedding is None else x + self.uv_embedding.get(x, aspect)
