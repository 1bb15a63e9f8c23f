"""Camera frames as PNG data URIs."""

import base64
import io

import numpy as np
from PIL import Image


def data_uri(frame: np.ndarray, width: int = 224) -> str:
    """A PNG of `frame` (uint8 [3, H, W]) as a data URI, at most `width` pixels wide."""
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(frame, 0, -1)))
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
