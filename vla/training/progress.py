"""Progress on the console: a bar with ETA and the newest metrics on a terminal, plain log lines elsewhere."""

import sys
from collections.abc import Iterable
from datetime import timedelta

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from vla.overwatch import get_console, initialize_overwatch

overwatch = initialize_overwatch(__name__)

# metric, label, format: what the console shows of a log entry, in this order
COLUMNS = (
    ("train/loss", "loss", "{:.4f}"),
    ("train/learning_rate", "lr", "{:.2e}"),
    ("train/grad_norm", "grad norm", "{:.3g}"),
    ("train/samples_per_second", "samples/s", "{:,.1f}"),
    ("training_stats/avg_tokens_per_second", "tokens/s", "{:,.0f}"),
    ("train/data_wait", "data wait", "{:.0%}"),
    ("train/memory_gib", "memory", "{:.3g} GiB"),
    ("train/mfu", "MFU", "{:.1%}"),
)
PER_DIMENSION = "eval/l1_"
_HARD_SPACE = "\u00a0"  # where lines don't wrap


def shown(metrics: dict[str, float]) -> list[tuple[str, str]]:
    """Label and value of what the console shows: of a training log entry `COLUMNS`, of an evaluation all but the single
    dimensions.
    """
    found = [(label, form.format(metrics[name])) for name, label, form in COLUMNS if name in metrics]
    if "train/loss" in metrics:
        return found
    return [(name, f"{value:.4g}") for name, value in metrics.items() if not name.startswith(PER_DIMENSION)]


def describe(metrics: dict[str, float]) -> str:
    """`"loss 0.1234  lr 1.00e-04 ..."`; see `shown`."""
    return "  ".join(f"{label} {value}" for label, value in shown(metrics))


class _Bar(Progress):
    """The run's name, a progress bar, and the newest metrics, which wrap where the terminal is narrow."""

    def __init__(self, name: str) -> None:
        self.name, self.metrics = name, list[tuple[str, str]]()
        super().__init__(
            BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("ETA"),
            TimeRemainingColumn(), console=get_console(), expand=True,
        )  # fmt: skip

    def get_renderables(self) -> Iterable[RenderableType]:
        yield Text(self.name, style="bold", overflow="ellipsis", no_wrap=True)
        yield from super().get_renderables()
        if self.metrics:
            yield _coloured(self.metrics)


def _coloured(pairs: list[tuple[str, str]]) -> Text:
    """Labels and values, each pair in one piece."""
    return Text("   ").join(
        Text.assemble((label.replace(" ", _HARD_SPACE), "dim"), _HARD_SPACE, value.replace(" ", _HARD_SPACE))
        for label, value in pairs
    )


class ProgressDisplay:
    """Shows how far a run is. Does nothing unless `is_main`.

    Args:
        total_steps: of the run.
        step: where it starts.
        name: of the run.
    """

    def __init__(self, total_steps: int, step: int, name: str, *, is_main: bool) -> None:
        self._total, self._is_main = total_steps, is_main
        self._bar: _Bar | None = None
        if is_main and sys.stderr.isatty():
            self._bar = _Bar(name)
            self._task = self._bar.add_task("", total=total_steps, completed=step)
            self._bar.start()

    def advance(self, step: int) -> None:
        """Optimizer step `step` is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def show(self, step: int, metrics: dict[str, float]) -> None:
        """Show a log entry or an evaluation; evaluations stay on the screen, and in the run's log file."""
        if not self._is_main:
            return
        is_training = "train/loss" in metrics
        if self._bar is not None and is_training:
            self._bar.metrics = shown(metrics)
            overwatch.to_file(self._line(step, metrics))
        else:
            overwatch.info(self._line(step, metrics))

    def _line(self, step: int, metrics: dict[str, float]) -> str:
        line = f"step {step}/{self._total}: {describe(metrics)}"
        if "train/loss" not in metrics:
            return line
        seconds = metrics.get("train/step_time", 0.0) * (self._total - step)
        return f"{line}  ETA {timedelta(seconds=int(seconds))}"

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
