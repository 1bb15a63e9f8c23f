"""What a process and its children hold, and what of it has grown."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low
from typing import NamedTuple

import psutil

MEGABYTE = 2**20
ALLOWED = 8 * MEGABYTE  # growth of memory that is none: buffers of the allocator


class Usage(NamedTuple):
    """At one moment.

    Memory is what a process has written and shares with no other: what a worker has of its parent would count twice,
    and a library's pages begin to count when the last other program that had loaded it ends.
    """

    files: int  # open, of this process
    threads: int
    processes: int  # children
    main: int  # bytes
    children: int  # bytes


def usage() -> Usage:
    """Of this process, now."""
    process = psutil.Process()
    children = process.children()
    folder = Path("/proc/self/fd")
    files = len(os.listdir(folder)) if folder.is_dir() else process.num_fds()
    memory = [_own_memory(item) for item in (process, *children)]
    return Usage(files, threading.active_count(), len(children), memory[0], sum(memory[1:]))


def _own_memory(process: psutil.Process) -> int:
    summary = Path(f"/proc/{process.pid}/smaps_rollup")
    try:
        if not summary.is_file():
            return int(process.memory_full_info().uss)  # has unwritten pages too
        (line,) = (line for line in summary.read_text().splitlines() if line.startswith("Private_Dirty:"))
    except (OSError, psutil.Error):  # it has ended, and nobody has taken note
        return 0
    return int(line.split()[1]) * 1024


def growth(seen: Sequence[Usage]) -> list[str]:
    """What has grown between the two halves of what was seen, in words; none: nothing leaks.

    Files, threads and processes may come and go (a batch that a worker has read is an open file): they have grown where
    the second half's median is above all of the first half. Memory has where the medians differ by more than `ALLOWED`.
    """
    middle = len(seen) // 2
    found = []
    for name in ("files", "threads", "processes"):
        early, late = ([getattr(item, name) for item in half] for half in (seen[:middle], seen[middle:]))
        if median_low(late) > max(early):
            found.append(f"{name}: {max(early)}, then {median_low(late)}")
    for name in ("main", "children"):
        early, late = (median_low([getattr(item, name) for item in half]) for half in (seen[:middle], seen[middle:]))
        if late - early > ALLOWED:
            found.append(f"memory ({name}): {early / MEGABYTE:.1f} MB, then {late / MEGABYTE:.1f} MB")
    return found
