"""Measuring variants in processes of their own, so that the peak memory of each is its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])


def in_own_process(file: str, *words: Any) -> dict[str, float]:
    """What `python file words` prints last, as JSON.

    Raises:
        RuntimeError: it failed, with the last line that it printed.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, file, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{words} failed: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_mib(device: str = "cpu") -> float:
    """The most memory that this process has had so far: of a CUDA device what its tensors took, else all of it."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def seconds(device: str) -> float:
    """A clock for what a device computes: processor time on a CPU, which other work on the machine does not change."""
    import time

    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
