"""What goes wrong when pictures that others made are read."""

import struct
import zlib

from PIL import Image

# Pillow's documented errors, and what its readers of single formats let through when a file is damaged.
UNREADABLE = (
    OSError, ValueError, SyntaxError, TypeError, LookupError, AttributeError, EOFError, ArithmeticError, AssertionError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
