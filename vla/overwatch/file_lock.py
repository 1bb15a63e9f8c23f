"""Locks on files, which go with the process that holds them however it ends."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from vla.errors import UserError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def lock_file(path: Path, *, inherited: bool = True) -> int | None:
    """Open and lock a file; None where the system has no such locks. Close the descriptor, or end, to let it go.

    Args:
        path: the file; it is made where there is none.
        inherited: whether child processes that have the descriptor hold the lock too, until the last of them ends.

    Raises:
        BlockingIOError: another process has it.
        OSError: it can't be opened.
    """
    if os.name == "nt":
        return None
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    lock = fcntl.flock if inherited else fcntl.lockf
    try:
        lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno == errno.EACCES:  # what some systems say instead
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        raise
    return handle


@contextlib.contextmanager
def alone_with(path: Path, problem: str, *, inherited: bool = True) -> Iterator[None]:
    """Hold the lock of a file inside of this. It goes with its process, however that ends.

    Where the file system has no locks nothing is held. `inherited`: as of `lock_file`.

    Raises:
        UserError: another process has it, and `problem` says so; or the file can't be written.
    """
    try:
        lock = lock_file(path, inherited=inherited)
    except BlockingIOError:
        raise UserError(problem) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise UserError(f"{path}: can't be written ({error.strerror})") from error
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)
