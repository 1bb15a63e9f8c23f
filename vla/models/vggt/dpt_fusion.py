"""
dpt_fusion.py

Building blocks of the dense head: residual convolution unit, fusion block, and the fixed encoding of image
coordinates.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_UV_BASE = 100.0
_UV_SCALE = 0.1
_MAX_CACHED_ENCODINGS = 16


def resize(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resize maps [N, C, h, w] to `size` bilinearly, corner pixels kept in the corners."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


class ResidualConvUnit(nn.Module):
    """
    Two 3x3 convolutions with a skip path: [N, C, h, w] -> [N, C, h, w].

    The skip carries relu(x), not x: the published weights were trained that way.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, C, h, w]."""
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x)))


class FusionBlock(nn.Module):
    """
    Adds a shallower level to the running map, refines it and resizes it.

    Args:
        features: Channels.
        has_skip: Whether a second input exists; the deepest block has none.
    """

    def __init__(self, features: int, has_skip: bool = True) -> None:
        super().__init__()
        if has_skip:
            self.resConfUnit1 = ResidualConvUnit(features)  # published names
        self.resConfUnit2 = ResidualConvUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None, *, size: tuple[int, int] | torch.Size) -> Tensor:
        """Map [N, C, h, w] (and a skip of equal shape) to [N, C, *size]."""
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        return self.out_conv(resize(self.resConfUnit2(x), size))


def uv_encoding(height: int, width: int, channels: int, aspect: float) -> Tensor:
    """
    Sine and cosine encoding of normalised image coordinates.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        channels: Channels of the map, a multiple of 4: the first half encodes x, the second y.
        aspect: Width over height of the image (not of the map).

    Returns:
        float32 [channels, height, width] on the CPU, already scaled by 0.1.

    Raises:
        ValueError: `channels` is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"channels must be a multiple of 4, got {channels}")
    diagonal = math.sqrt(aspect**2 + 1)
    omega = torch.arange(channels // 4, dtype=torch.float64, device="cpu") / (channels / 4)
    omega = _UV_BASE**-omega

    def encode(span: float, count: int) -> Tensor:  # [channels / 2, count]
        limit = span * (count - 1) / count
        coordinates = torch.linspace(-limit, limit, count, dtype=torch.float32, device="cpu").double()
        angles = omega[:, None] * coordinates
        return torch.cat((angles.sin(), angles.cos()))

    along_x = encode(aspect / diagonal, width)[:, None, :].expand(-1, height, -1)
    along_y = encode(1 / diagonal, height)[:, :, None].expand(-1, -1, width)
    return torch.cat((along_x, along_y)).float() * _UV_SCALE


class UVEmbedding:
    """Keeps the encodings of the last few map sizes."""

    def __init__(self) -> None:
        self._cache: dict[tuple[int, int, int, float, torch.device, torch.dtype], Tensor] = {}

    def get(self, x: Tensor, aspect: float) -> Tensor:
        """Encoding [C, h, w] for maps [N, C, h, w], in their dtype and on their device."""
        channels, height, width = x.shape[-3:]
        key = (height, width, channels, aspect, x.device, x.dtype)
        encoding = self._cache.get(key)
        if encoding is not None:
            return encoding
        with torch.inference_mode(False), torch.no_grad():  # inference tensors can't take part in a later backward
            encoding = uv_encoding(height, width, channels, aspect).to(device=x.device, dtype=x.dtype)
        if type(encoding) is Tensor and not torch.compiler.is_compiling():  # never keep a tracer's stand-in
            if len(self._cache) >= _MAX_CACHED_ENCODINGS:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = encoding
        return encoding
