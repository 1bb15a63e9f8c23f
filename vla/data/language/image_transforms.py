"""Pictures as the square images that vision towers take, pixel for pixel as Prismatic's towers were trained with.

Three ways to a square: `resize-naive` squeezes the picture, `resize-crop` resizes its short side and cuts the middle
out, `letterbox` first sets it on a square in the tower's mean colour. All work in whole pixel values on the CPU.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vla.conf.models.vision import PixelTransform

Pixels = NDArray[np.uint8]
Colour = tuple[int, ...]


def square_images(image: Image.Image, transforms: Mapping[str, PixelTransform], strategy: str) -> dict[str, Pixels]:
    """A picture for every tower.

    Args:
        image: any mode; transparency is dropped.
        transforms: by tower, what its images look like.
        strategy: letterbox | resize-crop | resize-naive.

    Returns:
        By tower, uint8 [3, S, S], a view of channels-last memory; towers whose images are equal share one.
    """
    image = image.convert("RGB")
    done: dict[tuple[int, Colour | None], Pixels] = {}
    squares = {}
    for tower, transform in transforms.items():
        border = tuple(int(value * 255) for value in transform.mean) if strategy == "letterbox" else None
        key = (transform.size, border)
        if key not in done:
            done[key] = np.array(_square(image, transform.size, strategy, border)).transpose(2, 0, 1)
        squares[tower] = done[key]
    return squares


def _square(image: Image.Image, size: int, strategy: str, border: Colour | None) -> Image.Image:
    if strategy == "resize-naive":
        return _resize(image, size, size)
    if border is not None:
        image = _letterbox(image, border)
    return _crop(_resize_short_side(image, size), size)


def _letterbox(image: Image.Image, border: Colour) -> Image.Image:
    """On a square; where an odd number of pixels is missing, it stays one pixel short, and is cropped later."""
    longest = max(image.size)
    horizontal, vertical = ((longest - length) // 2 for length in image.size)
    return ImageOps.expand(image, (horizontal, vertical, horizontal, vertical), border)


def _resize_short_side(image: Image.Image, size: int) -> Image.Image:
    short, long = sorted(image.size)
    longer = int(size * long / short)
    return _resize(image, *((size, longer) if image.width <= image.height else (longer, size)))


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def _crop(image: Image.Image, size: int) -> Image.Image:
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))
