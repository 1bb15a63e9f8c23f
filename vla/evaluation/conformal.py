"""A threshold for scores of which only normal ones are known, whose share of false alarms holds in finite samples.

Split conformal prediction (Vovk, Gammerman & Shafer 2005; Lei et al. 2018), for episodes of many frames as in
Lee, Barber & Willett, "Distribution-free inference with hierarchical data" (2023). Frames of an episode resemble each
other and are not exchangeable with those of another one; whole episodes are, if those of the calibration and a new one
come about in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

PER = ("episode", "frame")


def episodes_needed(rate: float) -> int:
    """The fewest normal episodes that can hold a share of false alarms down to `rate`, within (0, 1)."""
    return math.ceil(1 / _exact(rate)) - 1


def conformal_threshold(episodes: Sequence[Sequence[float]], rate: float, per: str = "episode") -> float:
    """The threshold that a score has to exceed to be an alarm.

    per = episode: an episode's score is its highest. With n of them, the threshold is the k-th smallest,
    k = ceil((n + 1)(1 - rate)). A new normal episode has an alarm with a probability of at most `rate`.

    per = frame: every episode has the same weight 1 / (n + 1), shared by its frames; the threshold is the smallest
    score up to which the weights add up to at least 1 - rate. Of a new normal episode's frames, the share of alarms is
    at most `rate` in expectation; in a single episode it may be more. With one frame per episode both are the same.

    Both probabilities are over the calibration episodes, too, and hold whatever the scores mean.

    Args:
        episodes: finite scores of the frames of each normal episode, at least one frame each.
        rate: share of false alarms, within (0, 1).
        per: episode | frame.

    Raises:
        ValueError: a value is out of range, or there are too few episodes for the rate; one line.
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"false_alarm_rate: must be within (0, 1), got {rate!r}")
    if per not in PER:
        raise ValueError(f"per: must be one of {', '.join(PER)}, got {per!r}")
    scores = [np.asarray(frames, dtype=np.float64) for frames in episodes]
    if not all(len(frames) and np.isfinite(frames).all() for frames in scores):
        raise ValueError("episodes: each must have a frame, and finite scores")
    count, needed = len(scores), episodes_needed(rate)
    if count < needed:
        raise ValueError(
            f"false_alarm_rate: {rate:g} needs at least {needed} normal episodes that were held out, got {count}; "
            "hold out more of them, or take a higher rate"
        )
    if per == "episode":
        scores = [frames.max(keepdims=True) for frames in scores]
    return _quantile(scores, math.ceil((count + 1) * (1 - _exact(rate)) * _common(scores)), _common(scores))


def _common(scores: Sequence[np.ndarray]) -> int:
    """A number that is divisible by every episode's number of frames: weights become whole."""
    return math.lcm(*(len(frames) for frames in scores))


def _quantile(scores: Sequence[np.ndarray], wanted: int, common: int) -> float:
    """The smallest score up to which the weights add up to `wanted`, each frame weighing `common` / frames."""
    rows = sorted((float(score), common // len(frames)) for frames in scores for score in frames)
    total = 0
    for score, weight in rows:
        total += weight
        if total >= wanted:
            return score
    raise AssertionError("unreachable: the number of episodes was checked")


def _exact(rate: float) -> Fraction:
    """The decimal that was written: 0.1 is a tenth, and ceil((n + 1) 0.9) is not one too many."""
    return Fraction(repr(float(rate)))
