"""Record LIBERO demonstrations with the scripted expert, in the official HDF5 layout.

Example:
    python scripts/record_libero.py --suite libero_object --tasks 0,3,6,7 --demos-per-task 5 --output data/libero_object
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import sys
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; wrong values end the program with one line and exit code 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", default="libero_object", help="libero_object, libero_spatial, ...")
    parser.add_argument("--tasks", default="all", help="indices such as 0,3,6, or all")
    parser.add_argument("--demos-per-task", type=int, default=5, help="successes to keep")
    parser.add_argument("--image-size", type=int, default=128, help="height and width of the frames")
    parser.add_argument("--output", type=Path, required=True, help="folder for <task>_demo.hdf5")
    parser.add_argument("--seed", type=int, default=1000, help="first placement seed, at least 1000")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of noise on the actions")
    parser.add_argument("--noise-hold", type=int, default=1, help="steps for which a draw of the noise is kept")
    parser.add_argument("--noise-share", type=float, default=1.0, help="probability that a draw is not zero")
    parser.add_argument("--workers", type=int, default=1, help="processes; each records one task at a time")
    parser.add_argument("--compression", type=int, default=9, help="gzip level, 0 for none")
    return parser.parse_args(arguments)


def task_indices(text: str, available: int) -> list[int]:
    """Turn "0,3,6" or "all" into task indices.

    Raises:
        ValueError: not a number, or no such task.
    """
    if text == "all":
        return list(range(available))
    indices = []
    for word in text.split(","):
        if not word.strip().isdigit() or int(word) >= available:
            raise ValueError(f"tasks: {word.strip()!r} is not one of 0 to {available - 1} or all")
        indices.append(int(word))
    return sorted(set(indices))


def record(suite: str, index: int, recipe: Any, demos: int, output: Path, events: Any) -> Any:
    """Record one task; runs in a worker process, which makes the simulator itself."""
    from vla.evaluation.simulator.recording import record_task
    from vla.evaluation.simulator.runtime import list_tasks

    task = list_tasks(suite)[index]
    return record_task(task, recipe, demos, output, lambda name, success: events.put((name, success)))


def run(options: argparse.Namespace) -> int:
    """Record all tasks with progress and print what came out.

    Raises:
        ValueError: an option is out of range.
        RuntimeError: the simulator is unavailable, or a task can't be recorded.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vla.evaluation.simulator.recording import Recipe
    from vla.evaluation.simulator.runtime import list_tasks

    if options.demos_per_task < 1 or options.workers < 1:
        raise ValueError("demos-per-task and workers must be at least 1")
    recipe = Recipe(
        options.seed, options.image_size, options.noise, options.noise_hold, options.noise_share, options.compression
    )
    tasks = list_tasks(options.suite)
    indices = task_indices(options.tasks, len(tasks))
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(options.workers, mp_context=context) as pool,
        Progress(*columns, console=console) as progress,
    ):
        events = manager.Queue()
        bar = progress.add_task("recording", total=len(indices) * options.demos_per_task)
        arguments = (recipe, options.demos_per_task, options.output, events)
        futures = [pool.submit(record, options.suite, index, *arguments) for index in indices]
        try:
            reports = _collect(futures, events, lambda: progress.advance(bar))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for report in reports:
        size = report.path.stat().st_size / 1e6
        console.print(
            f"{report.task_name}: {len(report.kept)} kept ({report.recorded_now} episodes played now), "
            f"{len(report.failed)} failed, {report.total_steps} steps, {size:.1f} MB"
        )
    return 0


def _collect(futures: list[Future[Any]], events: Any, advance: Any) -> list[Any]:
    waiting = set(futures)
    while waiting:
        try:
            _, success = events.get(timeout=0.5)
            if success:
                advance()
        except queue.Empty:
            pass
        for future in [future for future in waiting if future.done()]:
            future.result()  # a failed task ends the recording now, not after the others
            waiting.remove(future)
    return [future.result() for future in futures]


def main() -> int:
    """Run the command line; an error is one line and exit code 2."""
    options = parse_arguments()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers share the cores
    try:
        return run(options)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
