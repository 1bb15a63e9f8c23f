"""Evaluations of checkpoints in the background: started, watched and collected beside a training that never waits.

The loop hands over checkpoints and takes findings from a queue; all else happens in a thread of the main process, and
the evaluations themselves in processes of their own (`vla.training.evaluation_jobs`).
"""

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from vla.conf.json_files import read_json_object
from vla.conf.pretrain import PretrainConfig
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import DistState, any_process
from vla.training.checkpoint_files import MANIFEST, read_manifest, write_json
from vla.training.checkpoint_store import CheckpointStore, step_of
from vla.training.evaluation_jobs import CHECKPOINT, REQUEST, Job, Runner, get_runner
from vla.training.evaluation_requests import make_request
from vla.training.intervals import Interval
from vla.training.metrics_files import logged_keys
from vla.training.state import TrainerState

overwatch = initialize_overwatch(__name__)

FOLDER = Path("evaluation") / "background"  # of a run
_LOOK_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class Finding:
    """What the evaluation of a checkpoint found: metrics of the step that it was written at."""

    step: int
    metrics: dict[str, float]


class BackgroundEvaluation:
    """
    The evaluations of a run. A context: open while the run goes on; evaluations that run then outlive it.

    Args:
        config: the run.
        state: where it stands.
        is_main: whether this process has any; all others only know when one is due.
        metrics_file: metrics.jsonl of the run, which tells what is logged already.
    """

    def __init__(self, config: PretrainConfig, state: TrainerState, metrics_file: Path, *, is_main: bool) -> None:
        self._settings = config.evaluation.background
        self._interval = Interval(self._settings.every_steps)
        self._enabled = is_main and self._settings.every_steps is not None
        self._config, self._state, self._metrics_file = config, state, metrics_file
        self._folder = config.run_dir / FOLDER
        self._open: dict[Path, list[Job]] = {}  # by folder, the jobs of evaluations that are not merged yet
        self._started: dict[Job, float | None] = {}  # when it was first seen neither running nor done
        self._found: SimpleQueue[Finding] = SimpleQueue()
        self._runner: Runner = get_runner(self._settings)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "BackgroundEvaluation":
        """Take up what an interrupted run has left; evaluations of steps that are still to come again are put aside."""
        if self._enabled:
            for request in sorted(self._folder.glob(f"step-*/{REQUEST}")):
                try:
                    self._take_up(request.parent)
                except (OSError, UserError) as error:
                    overwatch.warning(f"{request.parent.name} is not evaluated in the background: {_one_line(error)}")
            checkpoint = CheckpointStore(self._config.run_dir).path(self._state.global_step)
            if self.due() and checkpoint.is_dir() and not (self._folder / checkpoint.name / REQUEST).is_file():
                self.submit(checkpoint)  # the run was interrupted right after it was saved
            self._stop.clear()
            self._thread = threading.Thread(target=self._watch, name="background evaluation", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # ---------------------------------------------------------------- the loop's side

    def due(self) -> bool:
        """Whether the checkpoint of the current step is to be evaluated; the same in every process."""
        return self._settings.every_steps is not None and self._interval.due(self._state)

    def submit(self, checkpoint: Path) -> None:
        """Have a checkpoint evaluated. Its files are linked: it may be deleted meanwhile. Any thread may call."""
        step = step_of(checkpoint)
        if not self._enabled or step is None:
            return
        folder = self._folder / checkpoint.name
        try:
            shutil.rmtree(folder, ignore_errors=True)
            link_checkpoint(checkpoint, folder / CHECKPOINT)
            write_json(folder / REQUEST, make_request(self._config, step))
        except (OSError, UserError) as error:
            overwatch.warning(f"step {step} is not evaluated in the background: {_one_line(error)}")
            return
        with self._lock:
            self._open[folder] = _jobs(folder)

    def found(self) -> list[Finding]:
        """What was found since the last call. Waits for nothing."""
        findings = []
        while True:
            try:
                findings.append(self._found.get_nowait())
            except Empty:
                return findings

    def wait(self, stop_requested: Callable[[], bool], dist: DistState) -> None:
        """At the end of a run, wait for the evaluations, for `wait_minutes` at most or until a stop is asked for.

        All processes call this and leave it together: those that left the process group early would wait in vain.
        """
        if self._settings.every_steps is None:
            return
        deadline = time.monotonic() + 60 * self._settings.wait_minutes
        if self._open:
            overwatch.info(f"waiting for {_count(len(self._open))} in the background; Ctrl-C stops the waiting")
        while any_process(bool(self._open) and time.monotonic() < deadline, dist):
            if any_process(stop_requested(), dist):
                break
            time.sleep(_LOOK_EVERY / 5)
        if self._open:
            overwatch.warning(f"{_count(len(self._open))} in the background unfinished; --resume auto picks them up")

    # ---------------------------------------------------------------- the thread's side

    def _watch(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                evaluations = dict(self._open)
            try:
                for folder, jobs in evaluations.items():
                    self._look_after(folder, jobs)
            except Exception as error:  # a file system that fails for a while must not end the watch
                overwatch.warning(f"background evaluation: {_one_line(error)}; trying again")
                self._stop.wait(60 * _LOOK_EVERY)
            self._stop.wait(_LOOK_EVERY)

    def _look_after(self, folder: Path, jobs: list[Job]) -> None:
        for job in jobs:
            if not self._is_over(job) and job not in self._started:
                self._start(job)
        if all(job.file("json").is_file() for job in jobs):
            self._finish(folder, jobs)

    def _is_over(self, job: Job) -> bool:
        """Whether a job has left its file; one that ended without it has failed."""
        if job.file("json").is_file():
            self._started.pop(job, None)
            return True
        if job not in self._started:
            return False
        if self._runner.is_running(job):
            self._started[job] = None
            return False
        now = time.monotonic()
        since = self._started[job]
        if since is None:
            self._started[job] = since = now
        if now - since < self._runner.patience or job.file("json").is_file():
            return False
        _fail(job, "its process ended without a result")
        self._started.pop(job)
        return True

    def _start(self, job: Job) -> None:
        """Start a job that no process is at, if there is room for it."""
        if not self._runner.is_running(job):
            if len(self._started) >= self._settings.max_processes:
                return
            try:
                self._runner.start(job)
            except OSError as error:
                _fail(job, _one_line(error))
                return
        self._started[job] = None

    def _finish(self, folder: Path, jobs: list[Job]) -> None:
        """Merge what the parts of an evaluation found into one file, and pass it on."""
        step = step_of(folder)
        results: dict[str, float] = {}
        failed: dict[str, str] = {}
        for job in jobs:
            try:
                content = read_json_object(job.file("json"))
            except UserError as error:
                content = {"error": str(error)}
            if "error" in content:
                failed[job.part] = content["error"]
                overwatch.warning(
                    f"evaluation of step {step} ({job.part}) failed: {content['error']}; see {job.file('log')}"
                )
            results |= content.get("results", {})
        write_json(merged_file(folder), {"global_step": step, "results": results, "failed": failed})
        shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
        self._pass_on(folder)
        with self._lock:
            del self._open[folder]

    def _take_up(self, folder: Path) -> None:
        step = step_of(folder)
        if step is None:
            return
        if step > self._state.global_step:
            for path in (folder, merged_file(folder)):
                aside = path.with_name(f"superseded-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                if path.exists():
                    os.replace(path, aside)
        elif merged_file(folder).is_file():
            self._pass_on(folder)
        else:
            self._open[folder] = _jobs(folder)

    def _pass_on(self, folder: Path) -> None:
        """Hand what was found to the loop, unless it is logged."""
        content = read_json_object(merged_file(folder))
        metrics, step = content["results"], content["global_step"]
        if metrics and not metrics.keys() <= logged_keys(self._metrics_file, step):
            self._found.put(Finding(step, metrics))


def merged_file(folder: Path) -> Path:
    """Where what all parts of an evaluation found is written."""
    return folder.with_name(f"{folder.name}.json")


def link_checkpoint(checkpoint: Path, target: Path) -> None:
    """Make `target` a checkpoint with the same weights, which needs no space as long as the original is there.

    What only training needs is left out.

    Raises:
        OSError: it can't be written.
        UserError: the checkpoint is not complete.
    """
    manifest = read_manifest(checkpoint)
    files = {name: size for name, size in manifest["files"].items() if not name.startswith("trainer/")}
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(checkpoint / name, target / name)
        except OSError:  # a file system without links
            shutil.copyfile(checkpoint / name, target / name)
    write_json(target / MANIFEST, manifest | {"files": files})


def _jobs(folder: Path) -> list[Job]:
    request: dict[str, Any] = read_json_object(folder / REQUEST)
    return [Job(folder, part) for part in request["parts"]]


def _fail(job: Job, reason: str) -> None:
    write_json(job.file("json"), {"global_step": step_of(job.folder), "error": reason})


def _count(number: int) -> str:
    return f"{number} evaluation{'s' if number > 1 else ''}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
