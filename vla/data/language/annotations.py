"""Annotation files in LLaVA's format, held as numbers: where each row is, and what sampling and splitting need of it.

Such a file is a JSON list of hundreds of thousands of rows, a gigabyte of text. As Python objects it would be several
gigabytes in every process that reads; here it is 50 bytes a row, and a row is read from the file when it is asked for.
"""

import json
import os
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vla.data.errors import BadExample, one_line

Row = dict[str, Any]
_MISSING = "the file was changed after it was indexed; start again"


@dataclass(frozen=True)
class Annotations:
    """What is known of the N rows of a file; safe to pickle, and small."""

    path: Path
    starts: NDArray[np.int64]  # [N], first byte of the row
    sizes: NDArray[np.int32]  # [N], bytes
    words: NDArray[np.int32]  # [N], of all turns, between spaces; `<image>` is one where it stands alone
    words_besides_image: NDArray[np.int32]  # [N], the same once every `<image>` is deleted
    turns: NDArray[np.int16]  # [N]
    keys: NDArray[np.uint64]  # [N], hash of the image's path, or of the whole row where there is no image
    image_ends: NDArray[np.int64]  # [N], where the row's image path ends in `image_text`
    image_text: NDArray[np.uint8] = field(repr=False)  # all paths, UTF-8, one after the other
    problems: dict[int, str] = field(default_factory=dict)  # row -> what is wrong with it

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def is_multimodal(self) -> NDArray[np.bool_]:
        """bool [N]: whether the row is about an image."""
        return np.diff(self.image_ends, prepend=0) > 0

    def images(self) -> list[str]:
        """The image path of every row, "" where it has none."""
        text, ends = self.image_text.tobytes(), self.image_ends.tolist()
        return [text[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]

    def image(self, row: int) -> str:
        """The image path of a row, "" where it has none."""
        start = int(self.image_ends[row - 1]) if row else 0
        return self.image_text[start : int(self.image_ends[row])].tobytes().decode()

    def label(self, row: int) -> str:
        """Where a row is, for messages: `"chat.json[17]"`, counted from 0."""
        return f"{self.path.name}[{row}]"

    def read(self, row: int) -> Row:
        """A row, read from the file.

        Raises:
            BadExample: it can't be read, or isn't there any more.
        """
        try:
            content = json.loads(self.read_bytes(row))
        except (ValueError, RecursionError) as error:
            raise BadExample(f"{self.path}[{row}]: {_MISSING}") from error
        if not isinstance(content, dict):
            raise BadExample(f"{self.path}[{row}]: {_MISSING}")
        return content

    def read_bytes(self, row: int) -> bytes:
        """A row as the file has it, JSON in UTF-8.

        Raises:
            BadExample: the file can't be read.
        """
        try:
            self._file.seek(int(self.starts[row]))
            return self._file.read(int(self.sizes[row]))
        except OSError as error:
            raise BadExample(f"{self.path}[{row}]: can't be read: {one_line(error)}") from error

    @cached_property
    def _handles(self) -> dict[int, BinaryIO]:
        return {}

    @property
    def _file(self) -> BinaryIO:
        """This process's handle: processes that share one would move each other's position."""
        process = os.getpid()
        if process not in self._handles:
            self._handles.clear()
            self._handles[process] = self.path.open("rb")
        return self._handles[process]

    def __getstate__(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}
