"""Trackers: where metrics are written. Only the main process has any."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml
from torch import Tensor

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.training.metrics_files import LinesFile, cut_after
from vla.training.prismatic_tracker import PrismaticTracker

overwatch = initialize_overwatch(__name__)

METRICS_FILE = "metrics.jsonl"
LATE_STEP = "<lmms-eval-step>"  # W&B: axis of evaluations in the background, as nanoVLM calls it


class Tracker(Protocol):
    """Takes metrics as they come."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Metrics after optimizer step `step`; `epoch` and `time` (seconds of training) are among them."""
        ...

    def write_late(self, step: int, metrics: dict[str, float]) -> None:
        """Metrics of an earlier step, found while the run went on."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on with the same run later, as JSON values."""
        ...

    def close(self) -> None:
        """Flush; nothing is written any more."""
        ...


class JSONLTracker:
    """metrics.jsonl in the run's folder, one object per line; a process that is killed takes no line along, and what a
    checkpoint was written after is on the disk with it (`Saver`).

    Args:
        run_dir: the run's folder.
        step: step that the run goes on from; later lines of an earlier attempt are cut off.
    """

    def __init__(self, run_dir: Path, step: int = 0) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        cut_after(run_dir / METRICS_FILE, step)
        self._file = LinesFile(run_dir / METRICS_FILE)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._file.write({"global_step": step, **metrics})

    write_late = write

    def state_dict(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self._file.close()


class TensorBoardTracker:
    """TensorBoard event files in `tensorboard/` of the run's folder."""

    def __init__(self, run_dir: Path, step: int = 0) -> None:
        self._folder = run_dir / "tensorboard"
        self._open({"purge_step": step + 1} if step else {})

    def _open(self, options: dict[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        # Its thread ends at the first error of the disk, and a queue with an end (10 by default) would then stop the
        # training for ever at the eleventh metric. 0: it has none.
        self._writer = SummaryWriter(logdir=str(self._folder), max_queue=0, **options)

    @property
    def _has_ended(self) -> bool:
        events = getattr(self._writer.file_writer, "event_writer", None)
        thread = getattr(events, "_worker", None)
        return thread is not None and not thread.is_alive()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        ended = self._has_ended
        if ended:
            self._open({})  # another file beside
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        if ended:
            raise OSError(f"those of earlier steps could not be written; going on in a new file of {self._folder}")

    write_late = write

    def state_dict(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self._writer.close()


def check_trackers(config: PretrainConfig) -> None:
    """Raise UserError if a tracker of `config` is not installed, before anything large is built."""
    if "wandb" in config.trackers:
        _import_wandb()


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError:
        raise UserError("trackers: wandb is not installed; pip install .[wandb]") from None
    return wandb


def _plain(config: PretrainConfig) -> Any:
    return yaml.safe_load(cli.dump(config))


class WandbTracker:
    """Weights & Biases; `WANDB_MODE=offline` keeps it from the network.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, config: PretrainConfig, state: dict[str, Any]) -> None:
        self._run = _import_wandb().init(
            project=config.wandb_project, entity=config.wandb_entity, name=config.resolved_run_id,
            dir=str(config.run_dir), config=_plain(config), id=state.get("run_id"), resume="allow",
        )  # fmt: skip
        self._late: set[str] = set()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def write_late(self, step: int, metrics: dict[str, float]) -> None:
        """It takes no step before its newest one: late metrics have an axis of their own, under its published name."""
        for name in metrics.keys() - self._late:
            self._run.define_metric(name=name, step_metric=LATE_STEP)
        self._late |= metrics.keys()
        self._run.log({**metrics, LATE_STEP: step})

    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self._run.id}

    def close(self) -> None:
        self._run.finish()


class Trackers:
    """The trackers of a run: JSONL always, the others of `config.trackers` besides; none unless `is_main`.

    Args:
        config: the run.
        step: step that the run goes on from.
        accumulation: micro-batches of a step.
        state: what `state_dict` gave when the run was saved.
    """

    def __init__(
        self, config: PretrainConfig, *, is_main: bool, step: int = 0, accumulation: int = 1,
        state: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._trackers: dict[str, Tracker] = {}
        self._prismatic: PrismaticTracker | None = None
        self._state = state or {}
        if not is_main:
            return
        if "wandb" in config.trackers:  # first: it may not be installed
            self._trackers["wandb"] = WandbTracker(config, self._state.get("wandb", {}))
        self._trackers["jsonl"] = JSONLTracker(config.run_dir, step)
        if "tensorboard" in config.trackers:
            self._trackers["tensorboard"] = TensorBoardTracker(config.run_dir, step)
        if "prismatic" in config.trackers:
            self._trackers["prismatic"] = self._prismatic = PrismaticTracker(
                config.run_dir, config.resolved_run_id, config.stage.value, _plain(config), accumulation=accumulation,
                step=step, state=self._state.get("prismatic"),
            )  # fmt: skip

    def add_micro_batch(self, loss: Tensor, weight: float) -> None:
        """For trackers that count micro-batches: the sum of a loss, and the weight that it has."""
        if self._prismatic is not None and weight:
            self._prismatic.add_micro_batch(loss / weight)

    def add_step(self, step: int, next_learning_rate: float) -> None:
        """For trackers with an entry for every step: optimizer step `step`, counted from 1, is done."""
        if self._prismatic is not None:
            add = partial(self._prismatic.add_step, step, next_learning_rate)
            self._attempt("prismatic", f"the metrics of step {step}", add)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Pass metrics on to every tracker. An error of the disk is logged, no more."""
        for name, tracker in self._trackers.items():
            self._attempt(name, f"the metrics of step {step}", partial(tracker.write, step, metrics))

    def write_late(self, step: int, metrics: dict[str, float]) -> None:
        """Pass metrics of an earlier step on to every tracker. An error of the disk is logged, no more."""
        for name, tracker in self._trackers.items():
            self._attempt(name, f"the late metrics of step {step}", partial(tracker.write_late, step, metrics))

    def _attempt(self, name: str, what: str, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            overwatch.error(f"{what} are NOT in {METRICS_FILE if name == 'jsonl' else name}: {error}")

    def state_dict(self) -> dict[str, Any]:
        """State by tracker, as JSON values."""
        return {name: tracker.state_dict() for name, tracker in self._trackers.items()} or self._state

    def close(self) -> None:
        """Close every tracker. An error of the disk is logged, no more."""
        for name, tracker in self._trackers.items():
            self._attempt(name, "the last metrics", tracker.close)
        self._trackers.clear()
