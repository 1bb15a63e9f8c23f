"""
preprocess.py

Image files -> VGGT input, the published way. Output is RGB in [0, 1]; the model normalises.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

ImageSource = str | os.PathLike[str] | Image.Image

TARGET_SIZE = 518
_PATCH_SIZE = 14
_WHITE = 1.0

_logger = logging.getLogger(__name__)


def load_and_preprocess_images(
    images: Sequence[ImageSource],
    mode: Literal["crop", "pad"] = "crop",
    target_size: int = TARGET_SIZE,
    patch_size: int = _PATCH_SIZE,
) -> Tensor:
    """
    Resize images for VGGT; differing results are padded with white to a common size.

    `crop` makes the width `target_size` and crops a larger height from the centre; `pad` makes the longer side
    `target_size` and pads the other with white.

    Args:
        images: Files or PIL images; transparency is laid on white.
        mode: `crop` or `pad`.
        target_size: Pixels, a multiple of `patch_size`.
        patch_size: Sides of the result are multiples of it.

    Returns:
        float32 [S, 3, H, W] in [0, 1].

    Raises:
        ValueError: There are no images, the mode is unknown or the size does not fit.
    """
    if mode not in ("crop", "pad"):
        raise ValueError(f"mode must be 'crop' or 'pad', got {mode!r}")
    _check_request(images, target_size, patch_size)
    return _stack([_preprocess(_open_rgb(image), mode, target_size, patch_size) for image in images])


def load_and_preprocess_images_square(images: Sequence[ImageSource], target_size: int = 1024) -> tuple[Tensor, Tensor]:
    """
    Pad images with black to squares, then resize them.

    Args:
        images: Files or PIL images; transparency is laid on white.
        target_size: Side of the result in pixels.

    Returns:
        float32 [S, 3, target_size, target_size] in [0, 1], and float32 [S, 6]: x1, y1, x2, y2 of the image inside the
        result, and the original width and height, in pixels.

    Raises:
        ValueError: There are no images.
    """
    _check_request(images, target_size, 1)
    results, boxes = [], []
    for source in images:
        image = _open_rgb(source)
        width, height = image.size
        side = max(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        square = Image.new("RGB", (side, side))
        square.paste(image, (left, top))
        results.append(_to_tensor(square.resize((target_size, target_size), Image.Resampling.BICUBIC)))
        scale = target_size / side
        corners = (left * scale, top * scale, (left + width) * scale, (top + height) * scale)
        boxes.append((*corners, width, height))
    return torch.stack(results), torch.tensor(boxes, dtype=torch.float32)


def _check_request(images: Sequence[ImageSource], target_size: int, patch_size: int) -> None:
    if not images:
        raise ValueError("at least one image is needed")
    if target_size < 1 or target_size % patch_size:
        raise ValueError(f"target_size {target_size} is not a positive multiple of {patch_size}")


def _open_rgb(source: ImageSource) -> Image.Image:
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{source}: has too many pixels to be a picture ({error})") from error
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")  # reads the pixels, so that the file is closed


def _to_tensor(image: Image.Image) -> Tensor:
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _preprocess(image: Image.Image, mode: str, target_size: int, patch_size: int) -> Tensor:
    width, height = image.size
    if mode == "pad" and height > width:
        new_size = (_to_multiple(width * target_size / height, patch_size), target_size)
    else:
        new_size = (target_size, _to_multiple(height * target_size / width, patch_size))
    pixels = _to_tensor(image.resize(new_size, Image.Resampling.BICUBIC))
    if mode == "pad":
        return _pad_white(pixels, target_size, target_size)
    excess = pixels.shape[1] - target_size
    return pixels if excess <= 0 else pixels[:, excess // 2 : excess // 2 + target_size]


def _to_multiple(length: float, patch_size: int) -> int:
    """The nearest multiple, halves to even as published, but at least one patch."""
    return max(round(length / patch_size), 1) * patch_size


def _pad_white(pixels: Tensor, height: int, width: int) -> Tensor:
    """Centre [3, h, w] on white; an odd pixel goes to the bottom or the right."""
    missing_h, missing_w = height - pixels.shape[1], width - pixels.shape[2]
    top, left = missing_h // 2, missing_w // 2
    return F.pad(pixels, (left, missing_w - left, top, missing_h - top), value=_WHITE)


def _stack(images: list[Tensor]) -> Tensor:
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    if any(image.shape[1:] != (height, width) for image in images):
        _logger.warning("images differ in size after resizing: padding all with white to %d x %d", height, width)
        images = [_pad_white(image, height, width) for image in images]
    return torch.stack(images)
