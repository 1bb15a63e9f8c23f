"""A folder that only one process may write to."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vla.errors import UserError
from vla.overwatch import file_lock
from vla.overwatch.file_lock import alone_with, lock_file


def test_the_second_is_told_and_the_lock_goes_with_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with alone_with(path, "busy"):
        with pytest.raises(BlockingIOError):
            lock_file(path)
        with pytest.raises(UserError, match="^busy$"), alone_with(path, "busy"):
            pass
    with alone_with(path, "busy"):
        pass


@pytest.mark.parametrize(("number", "words"), [(errno.ENOLCK, ""), (errno.EACCES, "lock: can't be written")])
def test_file_systems_without_locks_and_folders_that_are_not_ours(tmp_path, monkeypatch, number, words) -> None:
    def refuse(path: Path, *, inherited: bool) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_lock, "lock_file", refuse)
    try:
        with alone_with(tmp_path / "lock", "busy"):
            assert not words
    except UserError as error:
        assert words and words in str(error)


HOLD_AND_FORK = """
import os, sys, time
from pathlib import Path
from vla.overwatch.file_lock import lock_file
assert lock_file(Path(sys.argv[1]), inherited=sys.argv[2] == "True") is not None
worker = os.fork()
if worker:
    print(worker, flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked where the system can")
@pytest.mark.parametrize("inherited", [True, False])
def test_workers_that_outlive_a_killed_process_hold_what_they_inherited(tmp_path: Path, inherited: bool) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD_AND_FORK, str(path), str(inherited)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            with pytest.raises(BlockingIOError):
                lock_file(path, inherited=inherited)
            process.kill()
            process.wait()
            handle = None
            try:
                handle = lock_file(path, inherited=inherited)
            except BlockingIOError:
                pass
            assert (handle is None) == inherited
        finally:
            os.kill(worker, signal.SIGKILL)
