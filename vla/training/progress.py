"""Progress on the console: a bar with ETA on a terminal, plain log lines elsewhere."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

# metric, label, format: what the console shows of a log entry, in this order
COLUMNS = (
    ("train/loss", "loss", "{:.4f}"),
    ("train/learning_rate", "lr", "{:.2e}"),
    ("train/grad_norm", "grad norm", "{:.3g}"),
    ("train/samples_per_second", "samples/s", "{:.1f}"),
    ("train/data_wait", "data wait", "{:.0%}"),
)
PER_DIMENSION = "eval/l1_"


def describe(metrics: dict[str, float]) -> str:
    """`"loss 0.1234  lr 1.00e-04 ..."` of a training log entry; of an evaluation, all but the single dimensions."""
    shown = [f"{label} {form.format(metrics[name])}" for name, label, form in COLUMNS if name in metrics]
    if not shown:
        shown = [f"{name} {value:.4g}" for name, value in metrics.items() if not name.startswith(PER_DIMENSION)]
    return "  ".join(shown)


class ProgressDisplay:
    """Shows how far a run is. Does nothing unless `is_main`.

    Args:
        total_steps: of the run.
        step: where it starts.
        name: of the run.
    """

    def __init__(self, total_steps: int, step: int, name: str, *, is_main: bool) -> None:
        self._total, self._is_main = total_steps, is_main
        self._bar: Progress | None = None
        if is_main and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[metrics]}"),
                console=Console(stderr=True),
            )  # fmt: skip
            self._task = self._bar.add_task(name, total=total_steps, completed=step, metrics="")
            self._bar.start()

    def advance(self, step: int) -> None:
        """Optimizer step `step` is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def show(self, step: int, metrics: dict[str, float]) -> None:
        """Show a log entry or an evaluation; evaluations stay on the screen."""
        if not self._is_main:
            return
        is_training = "train/loss" in metrics
        if self._bar is not None and is_training:
            self._bar.update(self._task, metrics=describe(metrics))
        elif self._bar is not None:
            self._bar.console.print(f"step {step}: {describe(metrics)}", highlight=False)
        else:
            eta = metrics.get("train/step_time", 0.0) * (self._total - step)
            tail = f"  ETA {int(eta) // 60}:{int(eta) % 60:02d}" if is_training else ""
            overwatch.info(f"step {step}/{self._total}: {describe(metrics)}{tail}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
