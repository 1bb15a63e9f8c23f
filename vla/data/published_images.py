"""OpenVLA's image operations at evaluation as TensorFlow computes them: Lanczos resizing and the centre crop.

Batched, on any device, and without TensorFlow. Shapes: ... any leading dimensions, H and W pixels.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vla.data.resize import CHUNK_VALUES

_RADIUS = 3.0  # of the kernel, in pixels of the smaller image


@lru_cache(maxsize=64)
def _lanczos_matrix(size: int, new_size: int, device: str) -> Tensor:
    """Weights float64 [new_size, size]: TensorFlow's float32 numbers in a type that hardly rounds when adding."""
    scale = size / new_size
    stretch = max(scale, 1.0)  # antialiasing
    weights = np.zeros((new_size, size))
    for row in range(new_size):
        center = (row + 0.5) * scale
        first = max(math.ceil(center - _RADIUS * stretch - 0.5), 0)
        last = min(math.floor(center + _RADIUS * stretch - 0.5), size - 1)
        taps = np.array([_lanczos((column + 0.5 - center) / stretch) for column in range(first, last + 1)])
        weights[row, first : last + 1] = taps / taps.sum()
    return torch.from_numpy(weights.astype(np.float32).astype(np.float64)).to(device)


def _lanczos(x: float) -> float:
    x = abs(x)
    if x > _RADIUS:
        return 0.0
    if x <= 1e-3:
        return 1.0
    return _RADIUS * math.sin(math.pi * x) * math.sin(math.pi * x / _RADIUS) / (math.pi * x) ** 2


@torch.no_grad()
def lanczos3_resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """
    `tf.image.resize(images, size, "lanczos3", antialias=True)`, rounded to whole numbers.

    Unlike Pillow's, it does not round between the two axes.

    Args:
        images: uint8 [..., C, H, W], any strides.
        size: New height and width.

    Returns:
        float32 [..., C, h, w], whole numbers in [0, 255], contiguous.

    Raises:
        TypeError: The images aren't uint8.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if images.shape[-2:] == size:
        return images.to(torch.float32, memory_format=torch.contiguous_format)
    planes = images.reshape(-1, *images.shape[-3:])
    height, width = images.shape[-2:]
    rows = _lanczos_matrix(height, size[0], str(images.device))
    columns = _lanczos_matrix(width, size[1], str(images.device)).T
    resized = torch.empty(*planes.shape[:2], *size, device=images.device)
    per_image = planes.shape[1] * max(height, size[0]) * max(width, size[1])
    chunk = max(1, CHUNK_VALUES.get(images.device.type, 2**18) // per_image)
    for source, target in zip(planes.split(chunk), resized.split(chunk), strict=True):
        target.copy_((rows @ source.double() @ columns).round_().clamp_(0, 255))
    return resized.reshape(*images.shape[:-2], *size)


@torch.no_grad()
def center_crop(images: Tensor, area: float) -> Tensor:
    """
    The middle of images, resized back to their size without antialiasing (`tf.image.crop_and_resize`).

    Args:
        images: Whole numbers in [0, 255], float32 [..., H, W].
        area: Share of the area to keep, in (0, 1]; published: 0.9.

    Returns:
        Whole numbers in [0, 255], float32 [..., H, W].
    """
    pixels = images * torch.tensor(1 / 255, dtype=torch.float32)
    pixels = _middle(_middle(pixels, -1, area), -2, area).clamp_(0, 1)
    return pixels.mul_(255.5).floor_().clamp_(max=255)


def _middle(pixels: Tensor, axis: int, area: float) -> Tensor:
    """Linear interpolation of the middle of one axis, at as many places as it has."""
    low, high, fraction = (part.to(pixels.device) for part in _middle_places(pixels.shape[axis], area))
    first, second = pixels.index_select(axis, low), pixels.index_select(axis, high)
    return first + (second - first) * (fraction if axis == -1 else fraction[:, None])


@lru_cache(maxsize=64)
def _middle_places(size: int, area: float) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper neighbour (int64) and the way between them (float32), in float32 arithmetic throughout."""
    one, last = np.float32(1.0), np.float32(size - 1)
    side = np.sqrt(np.float32(area))
    start = (one - side) / np.float32(2.0)
    step = (start + side - start) * last / last if size > 1 else np.float32(0.0)
    places = start * last + np.arange(size, dtype=np.float32) * step
    low = np.floor(places)
    whole = torch.from_numpy(low.astype(np.int64)), torch.from_numpy(np.ceil(places).astype(np.int64))
    return *whole, torch.from_numpy(places - low)
