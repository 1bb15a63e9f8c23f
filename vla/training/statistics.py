"""How fast every process is, and on what: means, largest and smallest values over all steps and processes.

Processes exchange what they measured through the host's half of the process group (gloo), once per log entry: nothing
of it takes memory or time of an accelerator.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vla.overwatch.distributed import DistState, gather_objects

PREFIX = "training_stats/"
FORWARD_BACKWARD, POST_PROCESS, DATA_LOAD = "fw_bw_time", "post_process_time", "data_load_time"
_PHASES = (FORWARD_BACKWARD, POST_PROCESS)


class StepStatistics:
    """What this process measured since the last log entry.

    Args:
        device: where it computes. Times are the device's own: what a step computes there may end long after the
            host has asked for it, and is not waited for before the log entry.
        enabled: False measures nothing.
    """

    def __init__(self, device: str, *, enabled: bool = True) -> None:
        self.enabled, self._is_cuda = enabled, device.startswith("cuda")
        self._marks: dict[str, list[tuple[Any, Any]]] = {}
        self.clear()

    def clear(self) -> None:
        """Start a new window."""
        self._counts: dict[str, list[float]] = {}
        self.clear_times()

    def clear_times(self) -> None:
        """Go on with what was counted in this window, but not with its times: the run was interrupted in it."""
        self._marks = {name: [] for name in _PHASES}
        self._tokens: list[float] = []
        self._waited: list[float] = []
        self._waited_before = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside is this part of a step."""
        start = self._now() if self.enabled else None
        yield
        if self.enabled:
            self._marks[name].append((start, self._now()))

    def add_step(self, measures: Iterable[Mapping[str, list[float]]], waited: float) -> None:
        """
        Take in a step.

        Args:
            measures: of each of the step's micro-batches, what the task measured; `tokens` is summed, all others are
                values of single samples.
            waited: seconds for which the loop has waited for data since the window began.
        """
        tokens = 0.0
        for measured in measures:
            tokens += sum(measured.get("tokens", ()))
            for name, values in measured.items():
                if name != "tokens":
                    self._counts.setdefault(name, []).extend(values)
        self._tokens.append(tokens)
        self._waited.append(waited - self._waited_before)
        self._waited_before = waited

    def state_dict(self) -> dict[str, Tensor]:
        """What was counted in this window, float64 [N] by name; times are not kept."""
        return {f"counts.{name}": torch.tensor(values, dtype=torch.float64) for name, values in self._counts.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Add what `state_dict` gave to what was counted here; other keys in `state` are passed over."""
        for key, values in state.items():
            if key.startswith("counts."):
                self._counts.setdefault(key.removeprefix("counts."), []).extend(values.tolist())

    def gathered(self, dist: DistState) -> dict[str, float]:
        """`training_stats/{avg,max,min}_<name>` over the steps (or samples) of all processes, which all call this.

        `tokens_per_second` is the rate of all processes together. Empty if no step was added.
        """
        if not self.enabled:
            return {}
        own = self._values(dist.world_size)
        found: dict[str, float] = {}
        gathered = gather_objects({name: _summary(values) for name, values in own.items() if values}, dist)
        for name in dict.fromkeys(name for part in gathered for name in part):
            parts = [part[name] for part in gathered if name in part]
            total, count = sum(part[0] for part in parts), sum(part[1] for part in parts)
            found[f"{PREFIX}avg_{name}"] = total / count
            found[f"{PREFIX}max_{name}"] = max(part[2] for part in parts)
            found[f"{PREFIX}min_{name}"] = min(part[3] for part in parts)
        return found

    def _values(self, world_size: int) -> dict[str, list[float]]:
        if not self._tokens:
            return {}
        phases = {name: [_between(*pair) for pair in pairs] for name, pairs in self._marks.items()}
        seconds = [sum(parts) for parts in zip(self._waited, *phases.values(), strict=False)]
        rates = [world_size * tokens / spent for tokens, spent in zip(self._tokens, seconds, strict=False) if spent]
        return {"tokens_per_second": rates, DATA_LOAD: self._waited, **phases, **self._counts}

    def _now(self) -> Any:
        if not self._is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _between(start: Any, end: Any) -> float:
    """Seconds from one mark to another."""
    if isinstance(start, float):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1000


def _summary(values: list[float]) -> tuple[float, int, float, float]:
    return sum(values), len(values), max(values), min(values)
