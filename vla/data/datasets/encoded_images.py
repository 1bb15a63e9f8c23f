"""PNG and JPEG pictures out of files that somebody else wrote: their size is checked before they are unpacked."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vla.data.datasets.episodes import MAX_PIXELS

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
IMAGE_ERRORS = (OSError, ValueError, SyntaxError)  # what Pillow raises on damaged pictures


def image_size(data: bytes) -> tuple[int, int]:
    """Height and width in pixels of an encoded picture.

    Raises:
        OSError, ValueError, SyntaxError: it is none.
    """
    with _open(data) as image:
        return image.height, image.width


def decode_into(data: bytes, out: NDArray[np.uint8]) -> None:
    """Unpack a picture into `out`, uint8 [H, W, 3].

    Raises:
        ValueError: it has another size.
        OSError, SyntaxError: it is damaged.
    """
    with _open(data) as image:
        if (image.height, image.width) != out.shape[:2]:
            raise ValueError(f"a picture is {image.height}x{image.width}, expected {out.shape[0]}x{out.shape[1]}")
        np.copyto(out, np.asarray(image if image.mode == "RGB" else image.convert("RGB")))


def _open(data: bytes) -> Any:
    image = Image.open(BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"a picture has {image.height} x {image.width} pixels")
    return image
