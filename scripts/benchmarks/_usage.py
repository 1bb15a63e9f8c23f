"""What a process and its children hold, and what of it has grown."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

MEGABYTE = 2**20
ALLOWED = 8 * MEGABYTE  # growth of memory that is none: buffers of the allocator, more of less of a batch


class Usage(NamedTuple):
    """At one moment. Memory is what no other process shares: what a worker has of its parent would count twice."""

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
    memory = [item.memory_full_info().uss for item in (process, *children)]
    return Usage(files, threading.active_count(), len(children), memory[0], sum(memory[1:]))


def growth(seen: Sequence[Usage]) -> list[str]:
    """What has grown from the first to the last moment, in words; none: nothing leaks.

    Files, threads and processes may not be more at the end than at the beginning. Memory may be by `ALLOWED`; it is
    compared with the largest of the first half, since it comes and goes.
    """
    first, last, half = seen[0], seen[-1], seen[: max(1, len(seen) // 2)]
    found = []
    for name in ("files", "threads", "processes"):
        if getattr(last, name) > getattr(first, name):
            found.append(f"{name}: {getattr(first, name)}, then {getattr(last, name)}")
    for name in ("main", "children"):
        early, late = max(getattr(item, name) for item in half), getattr(last, name)
        if late - early > ALLOWED:
            found.append(f"memory ({name}): {early / MEGABYTE:.1f} MB, then {late / MEGABYTE:.1f} MB")
    return found
