"""Metrics files as Prismatic writes them, for tools that read its run folders."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonlines
import torch
from torch import Tensor

from vla.training.metrics_files import LinesFile, cut_after

HPARAMS_FILE = "run-metrics.jsonl"
WINDOW = 128  # micro-batches, and steps, that are averaged over


class PrismaticTracker:
    """`<run_id>.jsonl`, a line per optimizer step, and `run-metrics.jsonl` with the run's settings.

    As published, the losses are those of the main process's micro-batches, and the learning rate is the one that the
    next step will use.

    Args:
        run_dir: the run's folder.
        run_id: the run's name.
        stage: as the command line spells it; keys of the lines begin with it.
        hparams: settings of the run as JSON values.
        accumulation: micro-batches of a step.
        step: step that the run goes on from; later lines of an earlier attempt are cut off.
        state: what `state_dict` gave then.
        clock: seconds, from any start.
    """

    def __init__(
        self, run_dir: Path, run_id: str, stage: str, hparams: dict[str, Any], *, accumulation: int = 1, step: int = 0,
        state: dict[str, Any] | None = None, clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        state = state or {}
        self._prefix, self._clock = stage.capitalize(), clock
        self._losses: deque[float] = deque(state.get("losses", ()), maxlen=WINDOW)
        self._raw: deque[float] = deque(self._losses, maxlen=accumulation)
        self._times: deque[float] = deque(state.get("step_times", ()), maxlen=WINDOW)
        self._waiting: list[Tensor] = []  # losses on their device until the step is over
        run_dir.mkdir(parents=True, exist_ok=True)
        with jsonlines.open(run_dir / HPARAMS_FILE, "w", sort_keys=True) as file:
            file.write({"run_id": run_id, "hparams": hparams})
        path = run_dir / f"{run_id}.jsonl"
        cut_after(path, step, f"{self._prefix}/Step")
        self._file = LinesFile(path, sort_keys=True)
        self._start = clock()

    def add_micro_batch(self, loss: Tensor) -> None:
        """Take in the mean loss of a micro-batch, 0-dim."""
        self._waiting.append(loss.detach())

    def add_step(self, step: int, next_learning_rate: float) -> None:
        """Write the line of optimizer step `step`, counted from 1."""
        for loss in self._waiting:
            self._losses.append(loss.item())
            self._raw.append(self._losses[-1])
        self._waiting.clear()
        now = self._clock()
        self._times.append(now - self._start)
        self._start = now
        line = {
            "Step": step, "Loss": _mean(self._losses), "Loss (Raw)": _mean(self._raw),
            "Learning Rate": next_learning_rate, "Step Time": sum(self._times) / len(self._times),
        }  # fmt: skip
        self._file.write({f"{self._prefix}/{name}": value for name, value in line.items() if value is not None})

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Averages of several steps and evaluations have no place in these files."""

    write_late = write

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self._losses), "step_times": list(self._times)}

    def close(self) -> None:
        self._file.close()


def _mean(values: deque[float]) -> float | None:
    """In float32, as published; None where no micro-batch had anything to learn from."""
    return torch.tensor(list(values), dtype=torch.float32).mean().item() if values else None
