"""Recording demonstrations in the LIBERO simulator: two processes beside one.

    python scripts/bench.py recording
    python scripts/bench.py recording --demos 30 --task 3

Both variants record the same demonstrations of one task of libero_object, 128 pixels, without noise, into a folder of
their own that is thrown away. The time is that of the whole command: starting the processes, making their environments,
playing without cameras, playing again with them, compressing, and assembling the file. Needs the libero extra.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from vla.conf.record import Recipe
from vla.evaluation.simulator.recorders import Schedule
from vla.evaluation.simulator.recorders import run as run_processes
from vla.evaluation.simulator.recording import TaskRecording
from vla.evaluation.simulator.runtime import list_tasks


def run(demos: int = 12, task: int = 0, image_size: int = 128) -> dict[str, Any]:
    """Record with one process, then with two.

    Args:
        demos: successes to record.
        task: index in the suite.
        image_size: pixels.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the recording command does
    before = os.getloadavg()[0]
    rows = [measure(workers, demos, task, image_size) for workers in (1, 2)]
    return {
        "rows": rows, "baseline": rows[0]["name"], "measure": "demos_per_minute", "larger_is_better": True,
        "suite": "libero_object", "task": task, "demonstrations": demos, "pixels": image_size,
        "load average before": round(before, 2),
    }  # fmt: skip


def measure(workers: int, demos: int, task: int, image_size: int) -> dict[str, Any]:
    """Demonstrations per minute with a number of processes."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(image_size=image_size)
        recording = TaskRecording(list_tasks("libero_object")[task], recipe, demos, Path(folder))
        start = time.perf_counter()
        run_processes(Schedule([recording]), workers)
        seconds = time.perf_counter() - start
        report = recording.report()
    name = f"{workers} process{'es' if workers > 1 else ''}"
    return {
        "name": name, "demos_per_minute": 60 * demos / seconds, "seconds": seconds, "steps": report.total_steps,
        "failed": len(report.failed),
    }  # fmt: skip
