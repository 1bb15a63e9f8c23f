"""Share of the training step that a run spent waiting for data, from what it logged; it should stay below 10 %.

Train first (`bash scripts/quickstart.sh`), or name another run:

    python scripts/bench.py quickstart-data-wait --run_dir runs/quickstart
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vla.reporting.history import read_history

LIMIT = 0.10


def run(run_dir: str = "runs/quickstart") -> dict[str, Any]:
    """Read metrics.jsonl of a run.

    Raises:
        SystemExit: the run logged nothing to read.
    """
    history = read_history(path) if (path := Path(run_dir) / "metrics.jsonl").is_file() else None
    wait, step = (history.get("train/data_wait"), history.get("train/step_time")) if history else (None, None)
    if wait is None or step is None:
        raise SystemExit(
            f"error: run_dir: no training steps are logged in {path}; run bash scripts/quickstart.sh first"
        )
    seconds = step.values * np.diff(step.steps, prepend=0.0)  # of each log interval
    share = float(np.average(wait.values, weights=seconds))
    environment = Path(run_dir) / "environment.json"
    machine = json.loads(environment.read_text()) if environment.is_file() else {}
    return {
        "data_wait": share,
        "worst_log_entry": float(wait.values.max()),
        "limit": LIMIT,
        "within_limit": share < LIMIT,
        "optimizer_steps": history.last_step if history else 0,
        "step_s": float(seconds.sum() / step.steps[-1]),
        "processor": machine.get("processor", "unknown"),
        "cores": machine.get("cores", "unknown"),
    }
