"""Recording a task's demonstrations: expert, replay with cameras, one official HDF5 file, restartable."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py

from vla.evaluation.simulator.episodes import replay, search_success
from vla.evaluation.simulator.hdf5_writer import portable_model, write_demo, write_file_attributes
from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.runtime import LiberoTask

FIRST_SEED = 1000  # smaller seeds are left to evaluations
SEEDS_PER_TASK = 1000
_FILE_OPTIONS: dict[str, Any] = {"libver": "v110"}


class RecordingError(RuntimeError):
    """A task's demonstrations can't be recorded as asked."""


@dataclass(frozen=True)
class Recipe:
    """What decides the content of the files; two runs of one recipe write the same arrays.

    Attributes:
        seed: of the first demonstration of task 0; task k starts 1000 * k later.
        image_size: pixels.
        noise: standard deviation of the action noise.
        noise_hold: steps for which a draw of the noise is kept.
        noise_share: probability that a draw is not zero.
        compression: gzip level, 0 for none.
    """

    seed: int = FIRST_SEED
    image_size: int = 128
    noise: float = 0.0
    noise_hold: int = 1
    noise_share: float = 1.0
    compression: int = 9

    def __post_init__(self) -> None:
        checks = {
            "seed": (self.seed >= FIRST_SEED, f"must be >= {FIRST_SEED}: smaller ones are left to evaluations"),
            "image_size": (self.image_size >= 16, "must be >= 16"),
            "noise": (0.0 <= self.noise <= 0.5, "must be in [0, 0.5]"),
            "noise_hold": (self.noise_hold >= 1, "must be >= 1"),
            "noise_share": (0.0 < self.noise_share <= 1.0, "must be in (0, 1]"),
            "compression": (0 <= self.compression <= 9, "must be in [0, 9]"),
        }
        for name, (valid, reason) in checks.items():
            if not valid:
                raise ValueError(f"{name}: {reason}, got {getattr(self, name)}")


@dataclass(frozen=True)
class TaskReport:
    """What recording a task came to: seeds kept, seeds at which the expert failed, steps in all."""

    task_name: str
    path: Path
    kept: tuple[int, ...]
    failed: tuple[int, ...]
    total_steps: int
    recorded_now: int


def record_task(
    task: LiberoTask,
    recipe: Recipe,
    demos: int,
    output: Path,
    on_demo: Callable[[str, bool], None] = lambda task_name, success: None,
) -> TaskReport:
    """Record `demos` successes of one task into `output/<task>_demo.hdf5`.

    Each demonstration is first a file of its own beside the result; a run that was interrupted goes on with those
    that are complete. The result appears under its name only when it is whole.

    Args:
        task: from `list_tasks`.
        recipe: decides the content.
        demos: how many successes to keep.
        output: folder.
        on_demo: called after every demonstration with the task's name and whether it was a success.

    Raises:
        RecordingError: a file of another recipe is in the way, or the expert fails at most seeds.
    """
    path = output / f"{task.name}_demo.hdf5"
    kept = _finished(path, recipe, demos)
    if kept is not None:
        return kept
    parts = output / f".{task.name}.parts"
    _claim(parts, recipe)
    env: LiberoEnv | None = None
    kept_seeds: list[int] = []
    failed: list[int] = []
    recorded = 0
    first = recipe.seed + SEEDS_PER_TASK * task.index
    try:
        for seed in range(first, first + SEEDS_PER_TASK):
            part, marker = parts / f"{seed}.hdf5", parts / f"{seed}.failed"
            if not part.exists() and not marker.exists():
                env = env or LiberoEnv(task, recipe.image_size)
                _record_demo(env, recipe, seed, part, marker)
                recorded += 1
                on_demo(task.name, part.exists())
            (kept_seeds if part.exists() else failed).append(seed)
            if len(failed) > 5 + demos:
                raise RecordingError(f"{task.name}: the expert fails too often, at the seeds {failed}")
            if len(kept_seeds) == demos:
                break
        env = env or LiberoEnv(task, recipe.image_size, cameras=())
        total = _assemble(path, parts, env, recipe, kept_seeds, failed)
    finally:
        if env is not None:
            env.close()
    shutil.rmtree(parts)
    return TaskReport(task.name, path, tuple(kept_seeds), tuple(failed), total, recorded)


def _record_demo(env: LiberoEnv, recipe: Recipe, seed: int, part: Path, marker: Path) -> None:
    rollout, _ = search_success(
        env, seed, noise=recipe.noise, noise_hold=recipe.noise_hold, noise_share=recipe.noise_share
    )
    if not rollout.success:
        marker.touch()
        return
    rendered = replay(env, rollout)
    beside = part.with_suffix(".writing")
    with h5py.File(beside, "w", **_FILE_OPTIONS) as file:
        write_demo(file.create_group("demo"), rendered, portable_model(env), recipe.compression)
    os.replace(beside, part)


def _finished(path: Path, recipe: Recipe, demos: int) -> TaskReport | None:
    """Return the report of a finished file of the same recipe, or None if there is no file."""
    if not path.exists():
        return None
    with h5py.File(path) as file:
        data = file["data"]
        if data.attrs.get("recipe") != json.dumps(asdict(recipe), sort_keys=True) or len(data) != demos:
            raise RecordingError(f"{path} was recorded with other settings; move it away or choose another output")
        seeds = tuple(int(data[f"demo_{i}"].attrs["seed"]) for i in range(len(data)))
        failed = tuple(int(seed) for seed in data.attrs["failed_seeds"])
        return TaskReport(str(data.attrs["task_name"]), path, seeds, failed, int(data.attrs["total"]), 0)


def _claim(parts: Path, recipe: Recipe) -> None:
    """Make the folder of parts, or check that the one that is there was begun with the same recipe."""
    parts.mkdir(parents=True, exist_ok=True)
    note = parts / "recipe.json"
    text = json.dumps(asdict(recipe), sort_keys=True)
    if not note.exists():
        note.write_text(text)
    if note.read_text() != text:
        raise RecordingError(f"{parts} was begun with other settings; delete it or choose another output")


def _assemble(path: Path, parts: Path, env: LiberoEnv, recipe: Recipe, kept: list[int], failed: list[int]) -> int:
    beside = path.with_suffix(".writing")
    total = 0
    with h5py.File(beside, "w", **_FILE_OPTIONS) as file:
        data = file.create_group("data")
        write_file_attributes(data, env, asdict(recipe))
        for index, seed in enumerate(kept):
            with h5py.File(parts / f"{seed}.hdf5") as part:
                part.copy("demo", data, name=f"demo_{index}")
                total += int(part["demo"].attrs["num_samples"])
        data.attrs["num_demos"] = len(kept)
        data.attrs["total"] = total
        data.attrs["failed_seeds"] = failed
    os.replace(beside, path)
    return total
