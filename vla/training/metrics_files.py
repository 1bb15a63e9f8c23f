"""Metrics files with an object per line."""

import json
import os
from pathlib import Path


def cut_after(path: Path, step: int, key: str = "global_step") -> int:
    """Drop the lines of a metrics file past `step`, and a torn one; returns how many. The file is replaced at once."""
    if not path.exists():
        return 0
    kept, dropped = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            keep = json.loads(line)[key] <= step
        except (ValueError, KeyError, TypeError, RecursionError):  # half a line: the run was killed while writing it
            keep = False
        if keep:
            kept.append(line + "\n")
        dropped += not keep
    beside = path.with_suffix(".tmp")
    beside.write_text("".join(kept), encoding="utf-8")
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
