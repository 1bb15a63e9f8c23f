"""Starts groups of processes; makes `toys` and the modules beside this one importable."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "training"), str(HERE), str(HERE.parent)]

from groups import run_group  # noqa: E402 - found by the line before


@pytest.fixture(scope="session")
def run_workers() -> Callable[..., None]:
    """Run `function(dist, *arguments)` of workers.py in `world_size` processes; fails if one of them does."""

    def run(function: str, *arguments: str | Path, world_size: int = 2) -> None:
        ended = run_group(HERE / "workers.py", function, *arguments, world_size=world_size)
        failed = [text for code, text in ended if code]
        assert not failed, failed[0][-4000:]

    return run
