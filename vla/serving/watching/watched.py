"""A policy in the simulator with a watcher beside it: every frame that the policy is asked about is looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.watching import fault_strengths
from vla.errors import UserError
from vla.evaluation.detection import Watched
from vla.evaluation.simulator.episode_log import EpisodeLog
from vla.evaluation.simulator.injection import FaultSpec
from vla.evaluation.simulator.messages import Job, Outcome, PolicyInput
from vla.evaluation.simulator.protocol import Protocol, short_hash
from vla.overwatch import initialize_overwatch
from vla.serving.policy import ActingPolicy
from vla.serving.watching.threshold import Threshold
from vla.serving.watching.watcher import Watcher, newest_frame, restrain

overwatch = initialize_overwatch(__name__)


def load_watcher(config: ClosedLoopConfig, device: str) -> Watcher | None:
    """The watcher that an evaluation names, if any.

    Raises:
        UserError: there is no complete checkpoint of an anomaly detector, or none with a threshold of its own.
    """
    if config.watcher is None:
        return None
    watcher = Watcher.load(config.watcher, device)
    if watcher.threshold is None:
        raise UserError(
            f"watcher: {config.watcher} has no threshold yet; python scripts/evaluate.py --checkpoint "
            f"{config.watcher} --false_alarm_rate 0.1 gives it one"
        )
    return watcher


@dataclass(frozen=True)
class Round:
    """All episodes of an evaluation under one condition.

    Attributes:
        fault: what goes wrong in them; None: nothing.
        jobs: the episodes.
        log: where they are written down.
        outcomes: of those that are over, in the order of the jobs.
    """

    fault: FaultSpec | None
    jobs: list[Job]
    log: EpisodeLog
    outcomes: list[Outcome]


class WatchedPolicy:
    """
    What `SimulatorPool.run` asks in place of the policy.

    Args:
        policy: that is watched.
        watcher: with a threshold.
        protocol: says which frames the policy sees.
        action: observe | slow | stop, see `restrain`.

    Raises:
        UserError: the watcher was calibrated on other frames.
    """

    def __init__(self, policy: ActingPolicy, watcher: Watcher, protocol: Protocol, action: str) -> None:
        if watcher.threshold is None:
            raise UserError("watcher: has no threshold")
        self.policy, self.watcher, self.action = policy, watcher, action
        self.threshold: Threshold = watcher.threshold
        self.threshold.check_frames(protocol.cameras[0], protocol.image_size)
        if protocol.execute_steps < self.threshold.every:
            overwatch.warning(
                f"watcher: looks every {protocol.execute_steps} steps, its threshold comes from frames every "
                f"{self.threshold.every}; with more looks at an episode there may be more false alarms"
            )
        self._cameras = len(protocol.cameras)
        self._seen: dict[str, list[tuple[int, float]]] = {}

    @property
    def fingerprint(self) -> str:
        """Differs where episodes or their scores may; a threshold that only observes changes neither."""
        limit = None if self.action == "observe" else self.threshold.value
        usual = self.threshold.usual
        return short_hash([self.watcher.fingerprint, self.action, limit, None if usual is None else asdict(usual)])

    def act(self, inputs: list[PolicyInput]) -> list[np.ndarray]:
        """See `SimulatorPool.run`."""
        chunks = self.policy.act(inputs)
        verdicts = self.watcher.look([newest_frame(item.images, self._cameras) for item in inputs])
        for item, verdict in zip(inputs, verdicts, strict=True):
            if item.step == 0:  # an episode that is tried again starts over
                self._seen[item.episode.key] = []
            self._seen[item.episode.key].append((item.step, verdict.score))
        return [restrain(chunk, verdict, self.action) for chunk, verdict in zip(chunks, verdicts, strict=True)]

    def finished(self, outcome: Outcome) -> Outcome:
        """An episode's outcome with its scores."""
        return replace(outcome, watched=tuple(self._seen.pop(outcome.episode.key, ())))


def fault_specs(config: ClosedLoopConfig) -> list[FaultSpec]:
    """The faults that an evaluation names."""
    first, last = config.fault_onset
    return [FaultSpec(name, value, (first, last)) for name, value in fault_strengths(config.faults).items()]


def watched_by_key(outcomes: list[Outcome]) -> dict[str, Watched]:
    """What was made of each episode that ran to its end and was looked at."""
    return {
        item.episode.key: Watched(tuple(s for s, _ in item.watched), tuple(v for _, v in item.watched), item.onset)
        for item in outcomes
        if item.watched and item.status != "error"
    }
