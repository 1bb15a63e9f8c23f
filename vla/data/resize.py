"""Antialiased image resizing on any device, bit-equal to Pillow's.

A resize is linear and separable: columns and rows are each multiplied by a matrix of weights, which holds a flip of
that axis, too, for free. Pillow computes in integers, with weights in units of 2^-22. Such weights times 8-bit pixels
add up in float64 without any rounding, so that the result is the same on every device, in every batch and in any order
of summation: a policy sees the same picture in training and when it serves.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def _bilinear(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _bicubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _lanczos(x: float) -> float:
    if x == 0:
        return 1.0
    return 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2 if abs(x) < 3 else 0.0


KERNELS: dict[str, tuple[Callable[[float], float], float]] = {  # kernel, half its width
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
WEIGHT_UNIT = 2.0**-22
# Values of one intermediate result: small enough for a CPU's cache, bounded on a GPU.
CHUNK_VALUES = {"cpu": 2**18, "cuda": 2**26}


@lru_cache(maxsize=64)
def resize_matrix(size: int, new_size: int, kernel: str, flip: bool, device: str = "cpu") -> Tensor:
    """Weights float64 [new_size, size] on `device`; each row sums to 1 within rounding. `flip` reverses the axis."""
    function, support = KERNELS[kernel]
    scale = size / new_size
    stretch = max(scale, 1.0)  # a reduction averages over more pixels: that is the antialiasing
    weights = np.zeros((new_size, size))
    for row in range(new_size):
        center = (row + 0.5) * scale
        first = max(int(center - support * stretch + 0.5), 0)
        last = min(int(center + support * stretch + 0.5), size)
        taps = np.array([function((column + 0.5 - center) / stretch) for column in range(first, last)])
        weights[row, first:last] = taps / taps.sum()
    weights = np.copysign(np.floor(np.abs(weights) / WEIGHT_UNIT + 0.5) * WEIGHT_UNIT, weights)
    return torch.from_numpy(weights[:, ::-1].copy() if flip else weights).to(device)


@torch.no_grad()
def resize(
    images: Tensor, size: tuple[int, int], kernel: str, flip_rows: bool = False, flip_columns: bool = False
) -> Tensor:
    """Flip and resize a batch of images.

    Args:
        images: uint8 [..., C, H, W], any strides.
        size: new height and width.
        kernel: bilinear | bicubic | lanczos.
        flip_rows, flip_columns: reverse the axis (before resizing).

    Returns:
        float32 [..., C, h, w], whole numbers in [0, 255], contiguous.

    Raises:
        TypeError: the images aren't uint8.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    height, width = images.shape[-2:]
    if (height, width) == size:
        axes = [axis for axis, flip in ((-2, flip_rows), (-1, flip_columns)) if flip]
        return images.flip(axes).to(torch.float32, memory_format=torch.contiguous_format)
    planes = images.reshape(-1, *images.shape[-3:])
    device = str(images.device)
    columns = resize_matrix(width, size[1], kernel, flip_columns, device).T
    rows = resize_matrix(height, size[0], kernel, flip_rows, device)
    resized = torch.empty(*planes.shape[:2], *size, device=images.device)
    per_image = planes.shape[1] * max(height, size[0]) * max(width, size[1])
    chunk = max(1, CHUNK_VALUES.get(images.device.type, 2**18) // per_image)
    for source, target in zip(planes.split(chunk), resized.split(chunk), strict=True):
        # Columns first and whole pixels in between, as Pillow does. Autocast leaves float64 alone.
        pixels = _whole(source.to(torch.float64, memory_format=torch.contiguous_format) @ columns)
        target.copy_(_whole(rows @ pixels))
    return resized.reshape(*images.shape[:-2], *size)


def _whole(pixels: Tensor) -> Tensor:
    """Rounded half up into [0, 255], in place."""
    return pixels.add_(0.5).floor_().clamp_(0, 255)
