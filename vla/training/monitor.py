"""What a run tells the world: metrics of the training steps, averaged over the log interval, and evaluations."""

import math
import time
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from vla.batches import Batch
from vla.conf.pretrain import PretrainConfig
from vla.overwatch.distributed import DistState
from vla.training.background_evaluation import Finding
from vla.training.intervals import Interval
from vla.training.metrics import StepClock, WeightedSums
from vla.training.progress import ProgressDisplay
from vla.training.state import TrainerState
from vla.training.statistics import StepStatistics
from vla.training.tasks.base import TaskOutput
from vla.training.trackers import METRICS_FILE, Trackers
from vla.training.utilisation import Utilisation, memory_metrics

_FLOPS = "flops"  # a sum that is no metric itself


class Monitor:
    """Collects metrics and passes them to trackers and console. A context: open while the run goes on.

    Args:
        config: the run.
        dist: this process; only the main one writes.
        state: where the run stands; `elapsed` is kept up to date here.
        clock: times of the steps.
        measures: whether the task can say what a batch holds, for `statistics`.
    """

    def __init__(
        self, config: PretrainConfig, dist: DistState, state: TrainerState, clock: StepClock, *, measures: bool = False
    ) -> None:
        self.sums, self.clock = WeightedSums(), clock
        self.statistics = StepStatistics(dist.device, enabled=measures)
        self.utilisation = Utilisation()
        self.metrics_file = config.run_dir / METRICS_FILE
        self.tracker_state: dict[str, Any] = {}
        self._config, self._dist, self._state = config, dist, state
        self._interval = Interval(config.log_every_steps, config.log_every_epochs)
        self._learning_rate = 0.0
        self._trackers = Trackers(config, is_main=False)  # none before the run goes on

    def __enter__(self) -> "Monitor":
        self._started = time.perf_counter() - self._state.elapsed
        self._trackers = Trackers(
            self._config, is_main=self._dist.is_main, step=self._state.global_step, state=self.tracker_state,
            accumulation=self._config.stage_config.grad_accumulation_steps(self._dist.world_size),
        )  # fmt: skip
        self._progress = ProgressDisplay(
            self._state.total_steps, self._state.global_step, self._config.resolved_run_id, is_main=self._dist.is_main
        )
        self.clock.clear()
        self.statistics.clear_times()
        return self

    def __exit__(self, *_: object) -> None:
        self.update_elapsed()
        self.tracker_state = self._trackers.state_dict()
        self._progress.close()
        self._trackers.close()

    def add_micro_batch(self, output: TaskOutput, loss: Tensor, weight: float) -> None:
        """Take in a micro-batch: its loss as optimised (sum and weight) and its task's logs."""
        self.sums.add("loss", loss, weight)
        for name, (total, count) in output.logs.items():
            self.sums.add(name, total, count)
        self._trackers.add_micro_batch(loss, weight)

    def add_window(self, task: Any, window: Iterable[Batch]) -> None:
        """Take in what the micro-batches of a step hold, where the task can say (`measure`)."""
        window = [*window]
        measures = [task.measure(batch) for batch in window] if self.statistics.enabled else []
        if self.statistics.enabled:
            self.statistics.add_step(measures, self.clock.waited)
        if self.utilisation.enabled:
            self.sums.add(_FLOPS, self.utilisation.flops(window, measures))

    def add_step(self, grad_norm: float, learning_rate: float, next_learning_rate: float) -> None:
        """Take in an optimizer step: the gradient's norm before clipping, the learning rate that it used, and that of
        the next step.
        """
        finite = math.isfinite(grad_norm)  # not where fp16 overflowed
        self.sums.add("grad_norm", grad_norm if finite else 0.0, float(finite))
        self._learning_rate = learning_rate
        self._trackers.add_step(self._state.global_step + 1, next_learning_rate)

    def log_when_due(self, extra: dict[str, float]) -> None:
        """After every step: write the averages since the last time when it is time to. All processes must call it."""
        self._progress.advance(self._state.global_step)
        if not self._interval.due(self._state):
            return
        means, times = self.sums.means(self._dist), self.clock.metrics()
        used = self.utilisation.metrics(means.pop(_FLOPS, None), times.get("step_time"))
        used |= memory_metrics(self._dist)
        metrics = {"learning_rate": self._learning_rate, **means, **extra, **times, **used}
        training = {f"train/{name}": value for name, value in metrics.items()}
        self.write(training | self.statistics.gathered(self._dist))
        self.sums.clear()
        self.clock.clear()
        self.statistics.clear()

    def write(self, metrics: dict[str, float]) -> None:
        """Pass `metrics` to trackers and console as those of the current step."""
        self.update_elapsed()
        head = {"epoch": self._state.fractional_epoch, "time": self._state.elapsed}
        self._trackers.write(self._state.global_step, {**head, **metrics})
        self._progress.show(self._state.global_step, metrics)

    def write_found(self, findings: Iterable[Finding]) -> None:
        """Pass on what evaluations in the background found, as metrics of the steps that were evaluated."""
        for finding in findings:
            self._trackers.write_late(finding.step, finding.metrics)
            self._progress.show(finding.step, finding.metrics)

    def update_elapsed(self) -> None:
        """Bring `state.elapsed` up to date."""
        self._state.elapsed = time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """What the trackers need to go on, as JSON values; `sums` has a state of its own."""
        return self._trackers.state_dict()
