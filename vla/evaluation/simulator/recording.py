"""Recording a task's demonstrations: expert, replay with cameras, one official HDF5 file, restartable."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py

from vla.conf.record import SEEDS_PER_TASK, Recipe
from vla.errors import UserError
from vla.evaluation.simulator.episodes import Disturbances, play_expert, replay
from vla.evaluation.simulator.hdf5_writer import portable_model, write_demo, write_file_attributes
from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.runtime import LiberoTask

_FILE_OPTIONS: dict[str, Any] = {"libver": "v110"}
_FAILURES = 5  # so many more than the demonstrations asked for, and the task is given up


class RecordingError(UserError):
    """A task's demonstrations can't be recorded as asked."""


@dataclass(frozen=True)
class TaskReport:
    """What became of a task: seeds kept, seeds at which the expert failed, steps in all, size of the file."""

    task_name: str
    kept: tuple[int, ...]
    failed: tuple[int, ...]
    total_steps: int
    megabytes: float


@dataclass
class TaskRecording:
    """The files of one task: what is finished, what lies beside it in parts, and which seeds are still open.

    A demonstration is first a file of its own, `.<task>.parts/<seed>.hdf5`, or `<seed>.failed`, so a recording that was
    interrupted goes on with those that are there. `<task>_demo.hdf5` appears under its name only when it is whole. One
    with fewer demonstrations than asked for is gone on from; one with more stays as it is.

    Attributes:
        task: from `list_tasks` or `other_targets`.
        recipe: decides the content.
        demos: how many successes to keep.
        output: folder.
        results: whether the expert succeeded, by seed; more come in as they are recorded.
        in_file: name of a seed's demonstration in the finished file.

    Raises:
        RecordingError: at construction, files of another recipe are in the way.
    """

    task: LiberoTask
    recipe: Recipe
    demos: int
    output: Path
    results: dict[int, bool] = field(default_factory=dict)
    in_file: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.path = self.output / f"{self.task.name}_demo.hdf5"
        self.parts = self.output / f".{self.task.name}.parts"
        self.finished = self._read_finished()
        if not self.finished:
            self._read_parts()

    # --- which seeds ---

    def seeds(self) -> tuple[list[int], list[int], list[int]]:
        """Seeds kept, failed and open: the kept are the first successes in the order of seeds, whatever came first.

        Open seeds count as successes until they turn out otherwise, so no more are played than needed.
        """
        kept: list[int] = []
        failed: list[int] = []
        missing: list[int] = []
        first = self.recipe.first_seed(self.task.index, self.task.target)
        for seed in range(first, first + SEEDS_PER_TASK):
            if len(kept) + len(missing) == self.demos:
                break
            success = self.results.get(seed)
            (missing if success is None else kept if success else failed).append(seed)
        return kept, failed, missing

    def open_seeds(self, in_flight: Collection[int] = ()) -> list[int]:
        """Seeds to play next, but for those `in_flight`.

        Raises:
            RecordingError: the expert fails at most seeds.
        """
        _, failed, missing = self.seeds()
        if len(failed) > _FAILURES + self.demos or len(failed) == SEEDS_PER_TASK:
            raise RecordingError(f"{self.task.name}: the expert fails too often, at the seeds {failed}")
        return [seed for seed in missing if seed not in in_flight]

    # --- in the process that has the simulator ---

    def record(self, env: LiberoEnv, seed: int) -> bool:
        """Let the expert play one seed and write its part; whether it succeeded."""
        part, recipe = self._part(seed), self.recipe
        self._claim()
        noise = (recipe.noise, recipe.noise_hold, recipe.noise_share)
        disturbances = Disturbances(*noise, recipe.missed_grasps, recipe.lost_hands)
        # The planned grasp or none: another place on the rim in a like scene would be another answer to one question.
        rollout = play_expert(env, seed, None, disturbances)
        if not rollout.success:
            part.with_suffix(".failed").touch()
            return False
        rendered = replay(env, rollout)
        beside = part.with_suffix(".writing")
        with h5py.File(beside, "w", **_FILE_OPTIONS) as file:
            write_demo(file.create_group("demo"), rendered, portable_model(env), recipe.compression)
        os.replace(beside, part)
        return True

    def assemble(self, env: LiberoEnv) -> None:
        """Put the kept demonstrations into the task's file and remove the parts."""
        kept, failed, missing = self.seeds()
        assert not missing
        beside = self.path.with_suffix(".writing")
        total = 0
        with h5py.File(beside, "w", **_FILE_OPTIONS) as file:
            data = file.create_group("data")
            write_file_attributes(data, env, asdict(self.recipe))
            for index, seed in enumerate(kept):
                name = f"demo_{index}"
                source, group = (self.path, f"data/{self.in_file[seed]}") if seed in self.in_file else (None, "demo")
                with h5py.File(source or self._part(seed)) as part:
                    part.copy(group, data, name=name)
                total += int(data[name].attrs["num_samples"])
            data.attrs["num_demos"] = len(kept)
            data.attrs["total"] = total
            data.attrs["failed_seeds"] = failed
        os.replace(beside, self.path)
        if self.parts.exists():
            shutil.rmtree(self.parts)

    def report(self) -> TaskReport:
        """What is in the task's file."""
        with h5py.File(self.path) as file:
            data = file["data"]
            kept, failed = _seeds_in(data)
            total = int(data.attrs["total"])
        return TaskReport(self.task.name, tuple(kept), tuple(failed), total, self.path.stat().st_size / 1e6)

    # --- what is there ---

    def _part(self, seed: int) -> Path:
        return self.parts / f"{seed}.hdf5"

    def _read_finished(self) -> bool:
        """Take over the results of the task's file; whether nothing is left to do."""
        if not self.path.exists():
            return False
        try:
            with h5py.File(self.path) as file:
                same = _same_recipe(file["data"].attrs.get("recipe", ""), self.recipe)
                kept, failed = _seeds_in(file["data"]) if same else ({}, [])
        except (OSError, KeyError) as error:
            raise RecordingError(f"{self.path} is no whole recording ({error}); move it away") from error
        if not same:
            raise RecordingError(f"{self.path} was recorded with other settings; move it away or choose another output")
        self.in_file = kept
        self.results.update({**dict.fromkeys(failed, False), **dict.fromkeys(kept, True)})
        return len(kept) >= self.demos

    def _read_parts(self) -> None:
        """Take over the results of an interrupted recording."""
        if not self.parts.exists():
            return
        note = self._note
        if note.exists() and not _same_recipe(note.read_text(), self.recipe):
            raise RecordingError(f"{self.parts} was begun with other settings; delete it or choose another output")
        for path in self.parts.iterdir():
            if path.suffix in (".hdf5", ".failed") and path.stem.isdecimal():
                self.results[int(path.stem)] = path.suffix == ".hdf5"

    def _claim(self) -> None:
        """Make the folder of parts and note in it what they are parts of."""
        if not self._note.exists():
            self.parts.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps(asdict(self.recipe), sort_keys=True))

    @property
    def _note(self) -> Path:
        return self.parts / "recipe.json"


def _seeds_in(data: h5py.Group) -> tuple[dict[int, str], list[int]]:
    """Demonstrations of a finished file by seed, in their order, and the seeds that failed."""
    names = sorted(data, key=lambda name: int(name.removeprefix("demo_")))
    return {int(data[name].attrs["seed"]): name for name in names}, [int(seed) for seed in data.attrs["failed_seeds"]]


def _same_recipe(text: str, recipe: Recipe) -> bool:
    """Whether a stored recipe, which may be older than some of the settings, is this one."""
    try:
        return Recipe(**json.loads(text)) == recipe
    except (TypeError, ValueError):
        return False
