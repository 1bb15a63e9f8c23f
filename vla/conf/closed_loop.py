"""`ClosedLoopConfig`: how a policy is evaluated by letting it act in the simulator."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive
from vla.conf.watching import WATCHER_ACTIONS, check_faults

POLICIES = ("checkpoint", "expert", "replay", "zero", "random")
SUITES = ("libero-spatial", "libero-object", "libero-goal", "libero-10", "libero-90")
CHECKS = ("versions", "golden-frame", "published-observation", "replay", "contract", "preprocessing")


@dataclass(frozen=True)
class ClosedLoopConfig:
    """Let a policy act in the LIBERO simulator from the official initial states, and count its successes."""

    suite: str = "libero-object"  # libero-spatial | -object | -goal | -10 | -90
    checkpoint: Path | None = None  # a run folder (its best checkpoint), a checkpoint, or a folder in OpenVLA's layout
    unnorm_key: str | None = None  # OpenVLA's layout: dataset whose statistics its actions are in; none: the suite's
    policy: str = "checkpoint"  # checkpoint | expert (script) | replay (recorded demonstrations) | zero | random
    tasks: tuple[int, ...] = ()  # indices in the suite; none: all
    episodes: int = 20  # per task
    first_init: int = 0  # official initial state of a task's first episode; the others follow
    workers: int = 1  # simulator processes
    seed: int = 0  # of the furniture's placement and of what a policy draws
    execute_steps: int | None = None  # actions of a chunk executed before the next is asked for; none: all, at most 8
    ensemble: float | None = None  # average overlapping chunks, weight exp(-ensemble * age rank); none: newest only
    image_size: int | None = None  # pixels that cameras render; none: those of the training data
    wait_steps: int | None = None  # idle steps at the start, in which objects settle; none: 10, as published
    horizon: int | None = None  # steps of an episode after the waiting; none: the suite's published one
    instructions: str = "task"  # task (its own) | shuffled (each task gets another's; shows whether language matters)
    demonstrations: Path | None = None  # replay: recorded files; none: the checkpoint's training data
    videos: int = 1  # successes and failures to film, of each per task
    film_every: int = 2  # control steps between two frames of a film
    override_contract: tuple[str, ...] = ()  # fields in which checkpoint and simulator may differ, each named
    force: tuple[str, ...] = ()  # checks of the self-audit that may fail, e.g. golden-frame,replay
    time_limit: float = 300.0  # seconds without a sign of life after which a simulator process is replaced
    simulator_python: Path | None = None  # interpreter of an environment with the simulator; none: this one
    max_batch: int | None = None  # episodes predicted together; none: 1 on a CPU (its bits depend on no other), else 16
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda
    watcher: Path | None = None  # a run of an anomaly detector with a threshold (--false_alarm_rate), beside the policy
    watcher_action: str = "observe"  # on an alarm: observe | slow (half of the motion) | stop (ends the episode)
    faults: tuple[str, ...] = ()  # to play every episode with again: all, or names as camera_shift,blur:0.5 (strength)
    fault_onset: tuple[int, int] = (10, 80)  # first and last control step at which a fault may begin
    output_dir: Path | None = None  # evaluation/<suite>/ is written here; none: the run folder, or runs/<policy>

    def __post_init__(self) -> None:
        require_choice(self, "policy", POLICIES)
        suite = self.suite.replace("_", "-")
        require("suite", suite in SUITES, f"must be one of {', '.join(SUITES)}", self.suite)
        given = self.checkpoint is not None
        rule = "must name a run or checkpoint folder"
        require("checkpoint", given or self.policy != "checkpoint", rule, self.checkpoint)
        require_choice(self, "instructions", ("task", "shuffled"))
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_positive(self, "episodes", "workers", "execute_steps", "image_size", "horizon", "film_every")
        require_positive(self, "time_limit", "max_batch")
        require_nonnegative(self, "first_init", "seed", "ensemble", "wait_steps", "videos")
        for name in self.force:
            rule = "can't be forced as a whole: name the fields that may differ with --override_contract"
            require("force", name != "contract", rule, name)
            require("force", name in CHECKS, f"must be of {', '.join(CHECKS)}", name)
        require_choice(self, "watcher_action", WATCHER_ACTIONS)
        alone = self.watcher is None and self.watcher_action != "observe"
        require("watcher_action", not alone, "needs --watcher RUN, whose alarms it acts on", self.watcher_action)
        rule = "must be checkpoint, replay, zero or random with --watcher: the expert looks at no frames"
        require("policy", self.watcher is None or self.policy != "expert", rule, self.policy)
        check_faults(self)
        for task in self.tasks:
            require("tasks", task >= 0, "must be >= 0", task)
        if self.policy == "replay":
            require("demonstrations", given or self.demonstrations is not None, "must name a folder of recorded files",
                    self.demonstrations)  # fmt: skip
