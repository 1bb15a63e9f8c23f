"""`RecordConfig`: which demonstrations the scripted expert records in the simulator, and `Recipe`: their content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_nonnegative, require_positive
from vla.conf.closed_loop import SUITES

FIRST_SEED = 1000  # smaller seeds are left to evaluations
SEEDS_PER_TASK = 1000
VARIANTS = 100_000  # the variants' seeds begin this much later than the tasks'
VARIANT_SUITES = ("libero-object", "libero-spatial")
MOST_NOISE = 0.5


@dataclass(frozen=True)
class Recipe:
    """What decides the content of the files; two runs of one recipe write the same arrays.

    A demonstration's seed places the objects and draws the noise. Task k has the 1000 seeds from `seed + 1000 * k`. The
    variant that sets task t's target in task k's scene has those from `seed + 100000 + 10000 * k + 1000 * t`, which are
    no task's (both suites with variants have ten tasks). A task's file holds the first seeds at which the expert
    succeeds.

    Attributes:
        seed: of the first demonstration of task 0.
        image_size: pixels.
        noise: standard deviation of the action noise.
        noise_hold: steps for which a draw of the noise is kept.
        noise_share: probability that a draw is not zero.
        missed_grasps: probability that the first grasp of an episode misses on purpose.
        lost_hands: probability that an episode begins with a hand that got lost on purpose.
        compression: gzip level, 0 for none.
    """

    seed: int = FIRST_SEED
    image_size: int = 128
    noise: float = 0.0
    noise_hold: int = 1
    noise_share: float = 1.0
    compression: int = 9
    missed_grasps: float = 0.0
    lost_hands: float = 0.0

    def __post_init__(self) -> None:
        rule = f"must be >= {FIRST_SEED} (smaller ones are left to evaluations)"
        require("seed", self.seed >= FIRST_SEED, rule, self.seed)
        require("image_size", self.image_size >= 16, "must be >= 16", self.image_size)
        require("noise", 0 <= self.noise <= MOST_NOISE, f"must be within [0, {MOST_NOISE}]", self.noise)
        require("noise_hold", self.noise_hold >= 1, "must be >= 1", self.noise_hold)
        require("noise_share", 0 < self.noise_share <= 1, "must be > 0 and <= 1", self.noise_share)
        for name in ("missed_grasps", "lost_hands"):
            require(name, 0 <= getattr(self, name) <= 1, "must be within [0, 1]", getattr(self, name))
        both = self.missed_grasps + self.lost_hands
        require("lost_hands", both <= 1, "must be at most 1 together with missed_grasps", both)
        require("compression", 0 <= self.compression <= 9, "must be within [0, 9]", self.compression)

    def first_seed(self, task: int, target: int | None = None) -> int:
        """The first of the 1000 seeds of a task, or, with `target`, of the variant with that task's target."""
        if target is None:
            return self.seed + SEEDS_PER_TASK * task
        return self.seed + VARIANTS + 10 * SEEDS_PER_TASK * task + SEEDS_PER_TASK * target


@dataclass(frozen=True)
class RecordConfig:
    """Record LIBERO demonstrations with the scripted expert, as official HDF5 files."""

    suite: str = "libero-object"  # libero-spatial | -object | -goal | -10 | -90
    tasks: str = "all"  # indices in the suite such as 0,3,6, or all
    demos_per_task: int = 50  # successes to keep; raise it to go on from finished files
    other_targets: int = 0  # successes for each other target in a task's scene, as files of their own (object, spatial)
    output: Path | None = None  # folder for <task>_demo.hdf5; none: data/<suite>
    image_size: int = 128  # height and width of the frames in pixels
    seed: int = FIRST_SEED  # of task 0's first demonstration; task k starts 1000 k later, variants after 100000
    noise: float = 0.0  # standard deviation of Gaussian noise on the six motion dimensions of an action
    noise_hold: int = 1  # steps for which a draw of the noise is kept
    noise_share: float = 1.0  # probability that a draw is not zero
    missed_grasps: float = 0.0  # probability that an episode's first grasp misses on purpose; the retry is learned from
    lost_hands: float = 0.0  # probability that it begins with the hand anywhere; the way back is learned from
    workers: int = 1  # simulator processes; they share the tasks' demonstrations
    compression: int = 9  # gzip level; 0: none

    def __post_init__(self) -> None:
        suite = self.suite.replace("_", "-")
        require("suite", suite in SUITES, f"must be one of {', '.join(SUITES)}", self.suite)
        words = self.tasks.replace(" ", "").split(",")
        valid = words == ["all"] or all(word.isdecimal() for word in words)
        require("tasks", valid, "must be indices such as 0,3,6, or all", self.tasks)
        require_nonnegative(self, "demos_per_task", "other_targets")
        require_positive(self, "workers")
        for name in ("demos_per_task", "other_targets"):
            rule = f"must be <= {SEEDS_PER_TASK}, the number of a task's seeds"
            require(name, getattr(self, name) <= SEEDS_PER_TASK, rule, getattr(self, name))
        rule = "must be > 0 unless other_targets is"
        require("demos_per_task", self.demos_per_task + self.other_targets > 0, rule, self.demos_per_task)
        rule = f"are known of {' and '.join(VARIANT_SUITES)} only; leave it out for {suite}"
        require("other_targets", self.other_targets == 0 or suite in VARIANT_SUITES, rule, self.other_targets)
        _ = self.recipe  # checks its fields

    @property
    def recipe(self) -> Recipe:
        """What decides the content of the files."""
        noise = (self.noise, self.noise_hold, self.noise_share)
        return Recipe(self.seed, self.image_size, *noise, self.compression, self.missed_grasps, self.lost_hands)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        return self.output if self.output is not None else Path("data") / self.suite.replace("_", "-")

    def task_indices(self, available: int) -> list[int]:
        """The tasks that are asked for, of `available` ones.

        Raises:
            ValueError: there is no such task.
        """
        if self.tasks.strip() == "all":
            return list(range(available))
        indices = sorted({int(word) for word in self.tasks.split(",")})
        require("tasks", indices[-1] < available, f"must be of 0 to {available - 1}, or all", indices[-1])
        return indices
