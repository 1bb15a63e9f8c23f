"""Folders with small LIBERO files."""

from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from libero_files import write_task


@pytest.fixture(scope="session")
def libero_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks of three episodes, not compressed, observations before the action. Don't change its files."""
    folder = tmp_path_factory.mktemp("libero")
    write_task(folder, attributes={"obs_alignment": "before_action"})
    write_task(folder, "open_the_drawer", attributes={"obs_alignment": "before_action"})
    return folder


@pytest.fixture
def edit(tmp_path: Path) -> Callable[[Callable[[h5py.Group], None]], Path]:
    """Writes a task into a folder of its own, lets a function damage its demo_1, and gives the folder."""

    def write(damage: Callable[[h5py.Group], None]) -> Path:
        path = write_task(tmp_path / "data")
        with h5py.File(path, "r+") as file:
            damage(file["data/demo_1"])
        return path.parent

    return write
