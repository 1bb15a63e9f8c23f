"""Metrics: weighted sums that are averaged over a window of steps and over all processes, and the clock beside them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vla.overwatch.distributed import DistState, all_reduce_sum

# Metrics of a run that are measured of the machine it runs on: they differ from run to run.
MEASURED = frozenset(
    {"time", *(f"train/{name}" for name in ("step_time", "samples_per_second", "data_wait", "memory_gib", "mfu"))}
)


class WeightedSums:
    """Means that are exact however the samples are cut into batches and processes: sums and weights, apart.

    Adding waits for no device; every process must add the same names.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # float64 [2]: sum and weight

    def add(self, name: str, total: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Add a sum of values and the weight (number of values) that it has."""
        pair = torch.stack([_as_double(total), _as_double(weight).to(_device(total))])
        # What a resumed run goes on with was read from a file to the host.
        self._sums[name] = self._sums[name].to(pair.device) + pair if name in self._sums else pair

    def means(self, dist: DistState) -> dict[str, float]:
        """Mean by name over all processes; a name of weight 0 is left out. All processes must call this."""
        names = sorted(self._sums)
        if not names:
            return {}
        totals = all_reduce_sum(torch.stack([self._sums[name].cpu() for name in names]), dist).tolist()
        return {name: total / weight for name, (total, weight) in zip(names, totals, strict=True) if weight}

    def clear(self) -> None:
        """Start a new window."""
        self._sums.clear()

    def state_dict(self) -> dict[str, Tensor]:
        """The sums of this process, float64 [2] by name."""
        return {f"sums.{name}": pair.cpu() for name, pair in self._sums.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on with the sums of `state_dict`; other keys in `state` are passed over."""
        self._sums = {
            name.removeprefix("sums."): pair.clone() for name, pair in state.items() if name.startswith("sums.")
        }


def _device(value: Tensor | float) -> torch.device:
    return value.device if isinstance(value, Tensor) else torch.device("cpu")


def _as_double(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value).detach().double().reshape(())


class StepClock:
    """Time of the training steps alone (evaluations and saves don't count), and how much of it was spent waiting."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start a new window."""
        self.seconds, self.waited, self.steps, self.samples = 0.0, 0.0, 0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Everything inside is time lost waiting for data."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - start
            self.seconds += time.perf_counter() - start

    @contextmanager
    def working(self, samples: int) -> Iterator[None]:
        """Everything inside is one training step on `samples` samples, all processes together."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
            self.steps += 1
            self.samples += samples

    def metrics(self) -> dict[str, float]:
        """`step_time` in seconds, `samples_per_second` of all processes, `data_wait` as a fraction of the time."""
        if not self.steps or not self.seconds:
            return {}
        return {
            "step_time": self.seconds / self.steps,
            "samples_per_second": self.samples / self.seconds,
            "data_wait": self.waited / self.seconds,
        }
