"""Arrays on the wire: JSON as the json-numpy library writes it, msgpack as openpi's client does.

What comes from the network is never trusted: only plain numbers, and never more of them than the bytes that came.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode, b64encode
from typing import Any

import numpy as np

from vla.conf.errors import one_line
from vla.errors import UserError

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|bool|u?int(8|16|32|64)|float(16|32|64))")
_MAX_DIMENSIONS = 8


class WireError(UserError):
    """Bytes that are no message."""


def dump_json(value: Any) -> bytes:
    """JSON with arrays as `{"__numpy__": base64, "dtype": ..., "shape": [...]}`."""
    return json.dumps(value, default=_to_json, separators=(",", ":")).encode()


def load_json(data: bytes | str) -> Any:
    """
    The inverse of `dump_json`; arrays can't be written to.

    Raises:
        WireError: it is no JSON, or an array in it doesn't fit its own description.
    """
    try:
        return json.loads(data, object_hook=_from_json)
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError(f"body: must be JSON, {one_line(error)}") from error


def dump_msgpack(value: Any) -> bytes:
    """msgpack with arrays as maps `{b"__ndarray__": True, b"data": ..., b"dtype": ..., b"shape": ...}`."""
    import msgpack

    packed: bytes = msgpack.packb(value, default=_to_msgpack)
    return packed


def load_msgpack(data: bytes) -> Any:
    """
    The inverse of `dump_msgpack`; arrays can't be written to.

    Raises:
        WireError: it is no msgpack, or an array in it doesn't fit its own description.
    """
    import msgpack

    try:
        return msgpack.unpackb(data, object_hook=_from_msgpack)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"message: must be msgpack, {one_line(error) or type(error).__name__}") from error


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        return {"__numpy__": b64encode(array.tobytes()).decode(), "dtype": array.dtype.str, "shape": np.shape(value)}
    raise TypeError(f"{type(value).__name__} can't be sent")


def _from_json(found: dict[str, Any]) -> Any:
    if "__numpy__" not in found:
        return found
    try:
        data = b64decode(found["__numpy__"], validate=True)
    except (ValueError, TypeError) as error:
        raise WireError("__numpy__: must be base64") from error
    return _array(data, found.get("dtype"), found.get("shape"))


def _to_msgpack(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True, b"data": np.ascontiguousarray(value).tobytes(), b"dtype": value.dtype.str,
            b"shape": value.shape,
        }  # fmt: skip
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} can't be sent")


def _from_msgpack(found: dict[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        return _array(found.get(b"data"), found.get(b"dtype"), found.get(b"shape"))
    if b"__npgeneric__" in found:
        value = found.get(b"data")
        if not isinstance(value, bool | int | float):
            raise WireError("__npgeneric__: must hold a number")
        return value
    return found


def _array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    """Checked, in the machine's own byte order."""
    if not isinstance(dtype, str) or _DTYPE.fullmatch(dtype) is None:
        raise WireError(f"dtype: must be of plain numbers, such as <f4 or |u1, got {one_line(dtype)[:40]!r}")
    valid = isinstance(shape, list | tuple) and len(shape) <= _MAX_DIMENSIONS
    if not valid or not all(type(length) is int and 0 <= length < 2**31 for length in shape):
        raise WireError(f"shape: must be a list of at most {_MAX_DIMENSIONS} lengths, got {one_line(shape)[:40]}")
    if not isinstance(data, bytes):
        raise WireError(f"data: must be bytes, got {type(data).__name__}")
    kind = np.dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(data):
        raise WireError(f"shape: {list(shape)} of {dtype} are not {len(data)} bytes")
    array = np.frombuffer(data, kind).reshape(shape)
    return array if kind.isnative else array.astype(kind.newbyteorder("="))
