"""Starts groups of processes; makes `toys` and `workers` importable."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PATHS = [str(HERE.parent / "training"), str(HERE), str(HERE.parent), str(HERE.parents[1])]
sys.path[:0] = PATHS[:3]


def _free_port() -> int:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return connection.getsockname()[1]


@pytest.fixture(scope="session")
def run_workers() -> Callable[..., None]:
    """Run `function(dist, *arguments)` of workers.py in `world_size` processes; fails if one of them does."""

    def run(function: str, *arguments: str | Path, world_size: int = 2, timeout: float = 120) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")]), "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
        }  # fmt: skip
        command = [sys.executable, str(HERE / "workers.py"), function, *map(str, arguments)]
        processes = [
            subprocess.Popen(
                command, env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for rank in range(world_size)
        ]  # fmt: skip
        try:
            outputs = [process.communicate(timeout=timeout)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        failed = [text for process, text in zip(processes, outputs, strict=True) if process.returncode]
        assert not failed, failed[0][-4000:]

    return run
