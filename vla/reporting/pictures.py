"""Pictures inside of pages: frames and files as data URIs."""

import base64
import io
from pathlib import Path

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


_TYPES = {".mp4": "video/mp4", ".gif": "image/gif", ".jpg": "image/jpeg", ".png": "image/png"}
_MAX_FILE_BYTES = 2 * 2**20


def file_uri(path: Path) -> str:
    """A film or picture as a data URI; empty if there is none, it is too large, or of another kind."""
    kind = _TYPES.get(path.suffix)
    if kind is None or not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
        return ""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
