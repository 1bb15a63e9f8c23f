"""A folder that only one process may write to."""

import errno
import os
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
    def refuse(path: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_lock, "lock_file", refuse)
    try:
        with alone_with(tmp_path / "lock", "busy"):
            assert not words
    except UserError as error:
        assert words and words in str(error)
