"""How well a watcher notices that something goes wrong in an episode: AUROC, delay, misses, false alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from vla.evaluation.anomaly.ranking import auroc, rank


@dataclass(frozen=True)
class Watched:
    """What a watcher made of one episode.

    Attributes:
        steps: control steps whose frames it looked at, ascending.
        scores: one for each.
        onset: first step with the fault; None: there was none.
    """

    steps: tuple[int, ...]
    scores: tuple[float, ...]
    onset: int | None = None

    def since(self, step: int) -> list[float]:
        """The scores from `step` on."""
        return [score for number, score in zip(self.steps, self.scores, strict=True) if number >= step]


@dataclass(frozen=True)
class FalseAlarms:
    """Alarms in episodes in which nothing was wrong.

    Attributes:
        episodes: that were watched.
        frames: that were looked at.
        episode_share: of the episodes with at least one alarm; None without episodes.
        frame_share: of the frames with one; None without frames.
    """

    episodes: int
    frames: int
    episode_share: float | None
    frame_share: float | None


@dataclass(frozen=True)
class Detection:
    """How a fault was noticed. What there is nothing to say about is None.

    Attributes:
        episodes: in which the fault came about and at least one frame showed it.
        frames: that showed it.
        frame_auroc: probability that a frame with the fault scores higher than one without it (half of it if equal).
        episode_auroc: the same of whole episodes, by their highest score.
        missed_share: of the episodes, without an alarm since the onset.
        early_share: of the episodes, with an alarm before the onset.
        median_delay: control steps from the onset to the first alarm since, of the episodes that have one.
    """

    episodes: int
    frames: int
    frame_auroc: float | None
    episode_auroc: float | None
    missed_share: float | None
    early_share: float | None
    median_delay: float | None


def false_alarms(normal: Sequence[Watched], threshold: float) -> FalseAlarms:
    """Count alarms of episodes without a fault; an alarm is a score above the threshold."""
    watched = [item for item in normal if item.steps]
    alarms = [[score > threshold for score in item.scores] for item in watched]
    frames = sum(map(len, alarms))
    return FalseAlarms(
        len(watched), frames,
        sum(any(row) for row in alarms) / len(watched) if watched else None,
        sum(map(sum, alarms)) / frames if frames else None,
    )  # fmt: skip


def detection(faulty: Mapping[str, Watched], normal: Mapping[str, Watched], threshold: float) -> Detection:
    """Compare episodes with a fault with the same ones without it.

    Scores depend on how far an episode has come. Therefore a frame with the fault is compared with the normal episodes'
    frames from the same step on, and not with the arm's first moves: a fault that changes nothing gets one half.

    Args:
        faulty: by name, episodes in which the fault was to be injected; without an onset they are left out.
        normal: by name, episodes without a fault; of those that `faulty` hasn't, none is looked at.
        threshold: see `false_alarms`.
    """
    begun = {
        name: item for name, item in faulty.items() if item.onset is not None and item.since(item.onset)
    }  # fmt: skip
    bad = [item.since(item.onset or 0) for item in begun.values()]
    good = [normal[name].since(item.onset or 0) for name, item in begun.items() if name in normal]
    good = [scores for scores in good if scores]
    delays = [found for item in begun.values() if (found := _delay(item, threshold)) is not None]
    early = [any(s > threshold for s in item.scores[: len(item.scores) - len(item.since(item.onset or 0))])
             for item in begun.values()]  # fmt: skip
    return Detection(
        episodes=len(begun),
        frames=sum(map(len, bad)),
        frame_auroc=_auroc([score for row in good for score in row], [score for row in bad for score in row]),
        episode_auroc=_auroc([max(row) for row in good], [max(row) for row in bad]),
        missed_share=1 - len(delays) / len(begun) if begun else None,
        early_share=sum(early) / len(early) if early else None,
        median_delay=float(median(delays)) if delays else None,
    )


def _delay(item: Watched, threshold: float) -> int | None:
    onset = item.onset or 0
    for step, score in zip(item.steps, item.scores, strict=True):
        if step >= onset and score > threshold:
            return step - onset
    return None


def _auroc(good: Sequence[float], bad: Sequence[float]) -> float | None:
    return auroc(rank(np.array(good), np.array(bad))) if good and bad else None


def numbers(found: Any) -> dict[str, Any]:
    """The fields of a `Detection` or `FalseAlarms` for JSON."""
    return dict(vars(found))
