"""
track_features.py

Image-space operations of the tracker: bilinear sampling, correlation with a feature pyramid, and sine-cosine encodings
of displacements and positions.

Shapes: B batch, S frames, N points, C channels; coordinates are (x, y) in pixels of the feature map.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_POSITION_BASE = 10000.0
_FLOW_BASE = 1000.0


def sample_points(maps: Tensor, coords: Tensor, padding: Literal["zeros", "border"] = "border") -> Tensor:
    """
    Sample maps bilinearly; pixel centres lie on integer coordinates.

    Args:
        maps: [M, C, H, W].
        coords: [M, K, 2] as (x, y).
        padding: Value outside of the map.

    Returns:
        [M, K, C].
    """
    height, width = maps.shape[-2:]
    size = torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=coords.dtype, device=coords.device)
    grid = (coords * (2 / size) - 1).unsqueeze(1)
    # positions keep their precision where the maps have less
    samples = F.grid_sample(maps.to(grid.dtype), grid, align_corners=True, padding_mode=padding)
    return samples.squeeze(2).transpose(1, 2).to(maps.dtype)


def feature_pyramid(maps: Tensor, num_levels: int) -> list[Tensor]:
    """Maps [B, S, C, H, W] and their repeated 2x2 averages, finest first."""
    pyramid = [maps]
    for _ in range(num_levels - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1].flatten(0, 1), 2).unflatten(0, maps.shape[:2]))
    return pyramid


def window_offsets(radius: int, device: torch.device | None = None) -> Tensor:
    """Offsets (x, y) of a correlation window, float32 [(2 r + 1) ** 2, 2]; x is the slow index, as published."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    return torch.cartesian_prod(steps, steps)


def correlate(pyramid: list[Tensor], features: Tensor, coords: Tensor, radius: int) -> Tensor:
    """
    Correlation of each point's feature with a window around its position at every level.

    Args:
        pyramid: Maps [B, S, C, H_l, W_l], finest first.
        features: [B, S, N, C].
        coords: [B, S, N, 2] at the finest level.
        radius: Window radius in pixels of each level.

    Returns:
        [B, S, N, levels * (2 * radius + 1) ** 2], scaled by 1 / sqrt(C); zero outside of the maps.
    """
    batch, frames, num_points, channels = features.shape
    offsets = window_offsets(radius, coords.device)
    centres = coords.reshape(-1, 1, 2)  # [B * S * N, 1, 2]
    values = []
    for level, maps in enumerate(pyramid):
        volume = torch.einsum("bsnc,bschw->bsnhw", features, maps) / math.sqrt(channels)
        windows = sample_points(volume.reshape(-1, 1, *maps.shape[-2:]), centres / 2**level + offsets, "zeros")
        values.append(windows.reshape(batch, frames, num_points, -1))
    return torch.cat(values, dim=-1)


def flow_encoding(flow: Tensor, channels: int) -> Tensor:
    """
    Sine-cosine encoding of displacements.

    Args:
        flow: [..., 2].
        channels: Channels for each of x and y, even.

    Returns:
        [..., 2 * channels]: x then y, sine and cosine interleaved; frequencies are multiples of 1000 / channels.
    """
    steps = torch.arange(0, channels, 2, dtype=flow.dtype, device=flow.device) * (_FLOW_BASE / channels)
    angles = flow.unsqueeze(-1) * steps
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-3)


def position_encoding(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """
    Sine-cosine encoding of a pixel grid.

    Returns:
        float32 [channels, height, width]; the first half encodes the column, the second the row, each as all sines
        followed by all cosines.
    """
    quarter = channels // 4
    omega = _POSITION_BASE ** -(torch.arange(quarter, dtype=torch.float64, device="cpu") / quarter)

    def encode(count: int) -> Tensor:  # [channels / 2, count]
        angles = omega[:, None] * torch.arange(count, dtype=torch.float64, device="cpu")
        return torch.cat((angles.sin(), angles.cos()))

    columns = encode(width)[:, None, :].expand(-1, height, -1)
    rows = encode(height)[:, :, None].expand(-1, -1, width)
    return torch.cat((columns, rows)).to(device=device, dtype=torch.float32)
