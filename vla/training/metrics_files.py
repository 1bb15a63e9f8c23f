"""Metrics files with an object per line."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import jsonlines


class LinesFile:
    """A file that JSON objects are added to, one per line, in the system's hands as soon as it is written.

    Args:
        path: what is there stays.
        sort_keys: in every line.
    """

    def __init__(self, path: Path, *, sort_keys: bool = False) -> None:
        self._path, self._sort_keys = path, sort_keys
        self._open()

    def _open(self) -> None:
        self._file = self._path.open("a", encoding="utf-8")
        self._writer = jsonlines.Writer(self._file, sort_keys=self._sort_keys, flush=True)

    def write(self, row: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            OSError: it can't be written; nothing of it stays.
        """
        if self._file.closed:  # it could not be opened again after an error
            self._open()
        end = self._file.tell()
        try:
            self._writer.write(row)
        except OSError:
            self._drop_unwritten(end)
            raise

    def _drop_unwritten(self, end: int) -> None:
        """No half line stays, in the file or in memory: the next one would be glued to it."""
        with contextlib.suppress(OSError):
            self._file.close()  # tries once more to write what it holds
        os.truncate(self._path, min(end, self._path.stat().st_size))
        self._open()

    def close(self) -> None:
        """Nothing is written any more."""
        self._file.close()


def cut_after(path: Path, step: int, key: str = "global_step") -> int:
    """Drop the lines of a metrics file past `step`, and a torn one; returns how many. The file is replaced at once, and
    only if it changes: a full disk is no obstacle to going on from the last step that was logged.
    """
    if not path.exists():
        return 0
    kept, dropped = [], 0
    text = path.read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        try:
            keep = json.loads(line)[key] <= step
        except (ValueError, KeyError, TypeError, RecursionError):  # half a line: the run was killed while writing it
            keep = False
        if keep:
            kept.append(line + "\n")
        dropped += not keep
    if "".join(kept) != text:
        beside = path.with_suffix(".tmp")
        with beside.open("w", encoding="utf-8") as file:
            file.write("".join(kept))
            file.flush()
            os.fsync(file.fileno())  # else a machine that crashes now could leave an empty file
        os.replace(beside, path)
    return dropped


def logged_keys(path: Path, step: int, key: str = "global_step") -> set[str]:
    """The names of everything that a metrics file holds of `step`; lines that can't be read are passed over."""
    names: set[str] = set()
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    names |= set(row) if row[key] == step else set()
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
    return names
