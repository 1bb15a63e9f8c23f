"""Disks: room and speed where runs are written, and where the Hugging Face cache is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from vla.overwatch.findings import Finding

SECTION = "Storage"
GIB = 2**30
_LEAST_ROOM = 10 * GIB  # a checkpoint of a 7 B model with its optimizer is larger; of the small ones, many fit
_SLOW = 50e6  # bytes a second
_CHUNK = bytes(2**20)
_CHUNKS = 64


def check(folder: Path) -> Iterator[Finding]:
    """Room in `folder` and in the cache, and the speed of `folder`, by a file of 64 MiB that is removed again."""
    there = _existing(folder)
    yield _room("room", there)
    yield _speed(there)
    cache = _cache()
    if os.stat(_existing(cache)).st_dev != os.stat(there).st_dev:
        yield _room("hub cache", _existing(cache))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.expanduser().absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _room(name: str, folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    detail = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free in {folder}"
    if usage.free < _LEAST_ROOM:
        advice = "checkpoints need room: --checkpoint.keep_last 1, or --run_root_dir on another disk"
        if name == "hub cache":
            advice = "set HF_HOME to a folder on a larger disk"
        return Finding(name, "warning", detail, advice, SECTION)
    return Finding(name, "ok", detail, section=SECTION)


def _speed(folder: Path) -> Finding:
    path = folder / f".vla-doctor-{os.getpid()}"
    try:
        try:
            write, read = _write(path), _read(path)
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        advice = "choose another folder for runs: --run_root_dir DIR"
        return Finding("disk", "broken", f"can't write to {folder}: {error.strerror}", advice, SECTION)
    detail = f"{write / 1e6:,.0f} MB/s written, {read / 1e6:,.0f} MB/s read"
    if min(write, read) < _SLOW:
        advice = "checkpoints and data will wait for it: copy the data to a local disk, keep features in memory"
        return Finding("disk", "warning", detail, advice, SECTION)
    return Finding("disk", "ok", detail, section=SECTION)


def _write(path: Path) -> float:
    """Bytes a second, until they are on the disk."""
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(_CHUNKS):
            file.write(_CHUNK)
        file.flush()
        os.fsync(file.fileno())
    return _CHUNKS * len(_CHUNK) / (time.perf_counter() - start)


def _read(path: Path) -> float:
    """Bytes a second, with the operating system's cache emptied of the file where that can be asked for."""
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        while file.read(len(_CHUNK)):
            pass
        return _CHUNKS * len(_CHUNK) / (time.perf_counter() - start)
