"""Processes that are started together, as a launcher starts them."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATHS = [str(HERE.parent / "training"), str(HERE), str(HERE.parent), str(ROOT)]
HANGING = 900.0  # seconds: far more than any group needs on a busy machine; those that take longer never end


class Ended(NamedTuple):
    """How a process ended."""

    code: int  # exit code, or minus the signal
    text: str  # what it printed, errors among it


def environment(**more: str) -> dict[str, str]:
    """For programs that import this package and modules of these tests."""
    paths = os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}


def run_program(*words: str | Path) -> Ended:
    """Run `python words`."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(
        command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=HANGING
    )
    return Ended(done.returncode, done.stdout)


def run_group(*words: str | Path, world_size: int = 2) -> list[Ended]:
    """Run `python words` in `world_size` processes that find each other; what became of them, by rank.

    Raises:
        subprocess.TimeoutExpired: one of them hangs.
    """
    group = environment(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()), WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
    )  # fmt: skip
    processes, outputs = [], []
    try:
        for rank in range(world_size):
            outputs.append(tempfile.TemporaryFile("w+"))  # a pipe that nobody empties would stop who writes
            own = group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, *map(str, words)]
            processes.append(subprocess.Popen(command, env=own, stdout=outputs[-1], stderr=subprocess.STDOUT))
        for process in processes:
            process.wait(timeout=HANGING)
        for output in outputs:
            output.seek(0)
        texts = [output.read() for output in outputs]
        return [Ended(process.returncode, text) for process, text in zip(processes, texts, strict=True)]
    finally:
        for process in processes:
            process.kill()
        for output in outputs:
            output.close()


def _free_port() -> int:
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return connection.getsockname()[1]
