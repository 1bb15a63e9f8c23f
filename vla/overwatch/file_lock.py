"""Locks on files, which go with the process that holds them however it ends."""

import os
from pathlib import Path


def lock_file(path: Path) -> int | None:
    """Open and lock a file; None where the system has no such locks. Close the descriptor, or end, to let it go.

    Raises:
        BlockingIOError: another process has it.
        OSError: it can't be opened.
    """
    if os.name == "nt":
        return None
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
