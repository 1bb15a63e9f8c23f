"""Seconds from a command to its answer, as whole processes, against importing torch alone.

`--help` and errors of the configuration must not wait for torch; a plan of a run must come in seconds whatever the size
of the model. Medians of `repeats` calls.

    python scripts/bench.py startup
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vla.conf.models import ModelRegistry

ROOT = Path(__file__).resolve().parents[2]
PRETRAIN = [sys.executable, "scripts/pretrain.py"]


def run(repeats: int = 3) -> dict[str, Any]:
    """Time `--help`, an error, and `--dry_run` of every registered model."""
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "--help": [*PRETRAIN, "--help"],
        "--stage foo (an error)": [*PRETRAIN, "--stage", "foo"],
    }
    for member in ModelRegistry:
        commands[f"--dry_run, {member.model_id}"] = [*PRETRAIN, "--model.type", member.model_id, "--dry_run"]
    seconds = {name: _median_seconds(command, repeats) for name, command in commands.items()}
    rows = [{"name": name, "wall_s": value} for name, value in seconds.items()]
    return {"baseline": "import torch", "measure": "wall_s", "repeats": repeats, "rows": rows}


def _median_seconds(command: list[str], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
