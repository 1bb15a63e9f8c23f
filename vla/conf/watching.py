"""A watcher beside a policy: `WatchFramesConfig` what it learns from, `CalibrateConfig` its threshold, and faults."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive

FAULTS = ("camera_shift", "blur", "light", "distractor", "object_removed", "gripper_stuck")
ALL = "all"
WATCHER_ACTIONS = ("observe", "slow", "stop")
PER = ("episode", "frame")


@dataclass(frozen=True)
class WatchFramesConfig:
    """Collect frames of episodes in which nothing went wrong, in MVTec-AD's layout, for an anomaly detector."""

    demonstrations: Path | None = None  # folder of recorded files in LIBERO's layout; or:
    evaluation: Path | None = None  # RUN/evaluation/<suite>: its successes are played again in the simulator
    output: Path = Path("data/watch")  # folder for a class of pictures for each task, and the meta files
    camera: str = "agentview"  # demonstrations: which one; a watcher sees the policy's first, as an evaluation's is
    every: int = 8  # control steps between two frames; a watcher looks when its policy is asked, by default every 8th
    held_out: float = 0.25  # share of the episodes, drawn by the seed, that is kept from training, for the threshold
    tasks: tuple[str, ...] = ()  # names; empty: all
    max_episodes_per_task: int | None = None  # the first ones; none: all
    first_init: int = 0  # evaluation: initial states from this one on; those before are left to be evaluated later
    seed: int = 7  # of what is held out
    workers: int = 1  # evaluation: simulator processes
    simulator_python: Path | None = None  # evaluation: interpreter of an environment with the simulator; none: this one

    def __post_init__(self) -> None:
        one = (self.demonstrations is None) != (self.evaluation is None)
        require("demonstrations", one, "must name a folder, or else --evaluation one", self.demonstrations)
        require_positive(self, "every", "max_episodes_per_task", "workers")
        require_nonnegative(self, "seed", "first_init")
        require("first_init", not self.first_init or self.evaluation is not None, "needs --evaluation", self.first_init)
        require("held_out", 0 < self.held_out <= 1, "must be within (0, 1]; 1: nothing is trained on", self.held_out)


@dataclass(frozen=True)
class CalibrateConfig:
    """Choose the threshold of a watcher, the run `checkpoint`, so that held-out normal episodes give few alarms."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint of an anomaly detector
    false_alarm_rate: float = 0.1  # share of new normal episodes (or frames) with an alarm that is put up with
    per: str = "episode"  # episode (any alarm in it counts as one) | frame (an expected share of an episode's frames)
    dataset_root: Path | None = None  # what `data.py watch-frames` wrote; none: what the run was trained on
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)
        require("false_alarm_rate", 0 < self.false_alarm_rate < 1, "must be within (0, 1)", self.false_alarm_rate)
        require_choice(self, "per", PER)
        require_choice(self, "device", ("auto", "cpu", "cuda"))


def fault_strengths(words: tuple[str, ...]) -> dict[str, float]:
    """Strengths by the fault's name, of words such as `blur`, `blur:0.5` or `all`.

    Raises:
        ValueError: there is no such fault, or the strength is no positive number.
    """
    found: dict[str, float] = {}
    for word in words:
        name, given, strength = word.partition(":")
        require("faults", name in (*FAULTS, ALL), f"must be of {', '.join(FAULTS)}, or all", word)
        try:
            value = float(strength) if given else 1.0
        except ValueError:
            value = 0.0
        require("faults", 0 < value < 100, "a strength must be a number > 0, such as blur:0.5", word)
        for each in FAULTS if name == ALL else (name,):
            require("faults", each not in found, "must name a fault once", word)
            found[each] = value
    return found


def check_faults(config: Any) -> None:
    """The fields of an evaluation that say what goes wrong.

    Raises:
        ValueError: one of them can't be.
    """
    fault_strengths(config.faults)
    rule = "needs --watcher RUN, which is to notice them"
    require("faults", not config.faults or config.watcher is not None, rule, config.faults)
    first, last = config.fault_onset
    require("fault_onset", 1 <= first <= last, "must be two steps, 1 <= first <= last", config.fault_onset)
