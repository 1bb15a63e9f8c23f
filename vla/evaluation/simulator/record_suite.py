"""The recording command: tasks and variants of a suite, progress, and the table at the end (scripts/data.py record)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from vla.conf.record import RecordConfig
from vla.errors import UserError
from vla.evaluation.simulator.protocol import suite_name
from vla.evaluation.simulator.recorders import LiberoRecorder, Recorder, Schedule, Step, run
from vla.evaluation.simulator.recording import TaskRecording, TaskReport
from vla.evaluation.simulator.runtime import LiberoTask, SimulatorUnavailableError, list_tasks
from vla.evaluation.simulator.variants import other_targets
from vla.overwatch.file_lock import alone_with

_PLAIN_WIDTH = 160  # columns when the output is no terminal; names of tasks are long


def record(config: RecordConfig, make_recorder: Callable[[], Recorder] = LiberoRecorder) -> int:
    """Record as `config` says, with a progress bar on stderr and a table on stdout; returns the exit code.

    1 means that the expert failed too often at some task; the others are recorded.

    Args:
        config: what is asked for.
        make_recorder: see `run`.

    Raises:
        UserError: no simulator, no such task, files of another recipe in the way, or a step that failed twice.
        KeyboardInterrupt: what is recorded stays, and the same call goes on.
    """
    try:
        _chosen(config)  # nothing is written for what can't be recorded
        config.folder.mkdir(parents=True, exist_ok=True)
        busy = f"output: another recording is writing to {config.folder}; wait for it, or stop it"
        with alone_with(config.folder / ".recording.lock", busy):  # two would write the same parts
            return _record(plan(config), config.workers, make_recorder)
    except (SimulatorUnavailableError, OSError) as error:
        raise UserError(str(error)) from error


def _record(recordings: list[TaskRecording], workers: int, make_recorder: Callable[[], Recorder]) -> int:
    schedule = Schedule(recordings)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    recorded = {True: 0, False: 0}
    start = time.monotonic()
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        done = sum(len(recording.seeds()[0]) for recording in recordings)
        bar = progress.add_task("recording", total=sum(recording.demos for recording in recordings), completed=done)

        def on_step(step: Step, success: bool) -> None:
            if step.seed is not None:
                recorded[success] += 1
                progress.advance(bar, success)
            else:
                kept, failed, _ = recordings[step.number].seeds()
                name = recordings[step.number].task.name
                console.print(f"{name}: {len(kept)} kept, {len(failed)} failed", soft_wrap=True, highlight=False)

        run(schedule, workers, on_step, make_recorder)
    minutes = (time.monotonic() - start) / 60
    wide = Console() if Console().is_terminal else Console(width=_PLAIN_WIDTH)
    wide.print(to_table([recording.report() for recording in recordings if recording.finished]))
    rate = f" in {minutes:.1f} minutes, {recorded[True] / minutes:.2f} per minute" if recorded[True] else ""
    wide.print(
        f"{recorded[True]} demonstrations recorded now, {recorded[False]} attempts failed{rate}", highlight=False
    )
    for problem in schedule.given_up.values():
        console.print(f"error: {problem}", soft_wrap=True, highlight=False)
    return 1 if schedule.given_up else 0


def plan(config: RecordConfig) -> list[TaskRecording]:
    """What to record: the tasks in their order, then their variants.

    Raises:
        UserError: no such task, or files of another recipe are in the way.
        SimulatorUnavailableError: LIBERO is missing.
        OSError: the folder can't be written.
    """
    tasks, chosen = _chosen(config)
    wanted = [(task, config.demos_per_task) for task in chosen if config.demos_per_task]
    if config.other_targets:
        variants = [variant for task in chosen for variant in other_targets(task, tasks, config.folder / "bddl")]
        wanted += [(variant, config.other_targets) for variant in variants]
    return [TaskRecording(task, config.recipe, demos, config.folder) for task, demos in wanted]


def _chosen(config: RecordConfig) -> tuple[list[LiberoTask], list[LiberoTask]]:
    """The suite's tasks, and those that are asked for."""
    tasks = list_tasks(suite_name(config.suite))
    try:
        return tasks, [tasks[index] for index in config.task_indices(len(tasks))]
    except ValueError as error:
        raise UserError(str(error)) from error


def to_table(reports: Sequence[TaskReport]) -> Table:
    """A row per task and one for all."""
    table = Table(box=None)
    table.add_column("task", overflow="fold")
    for title in ("kept", "failed", "steps", "MB"):
        table.add_column(title, justify="right")
    for report in reports:
        numbers = (len(report.kept), len(report.failed), report.total_steps)
        table.add_row(report.task_name, *map(str, numbers), f"{report.megabytes:.1f}")
    sums = [sum(len(report.kept) for report in reports), sum(len(report.failed) for report in reports)]
    sums.append(sum(report.total_steps for report in reports))
    table.add_row("all", *map(str, sums), f"{sum(report.megabytes for report in reports):.1f}")
    return table
