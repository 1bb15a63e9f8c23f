"""Exact metrics of a ranking: areas under curves from sorted scores, without a table of all thresholds.

Everything follows from the sorted scores of the bad and of the good values. Only at the scores of bad ones can a
curve rise, and these are few: all of a class's pixels are sorted once, in single precision, and never indexed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Weights = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """The curve's corners, from the highest threshold down: one for each distinct score of a bad value.

    Attributes:
        hits: bad values with at least that score.
        gains: what those at exactly that score add to the curve, a share of 1.
        above: good values with a higher score.
        false_alarms: good values with at least that score.
        num_good: good values in all.
    """

    hits: Counts
    gains: Weights
    above: Counts
    false_alarms: Counts
    num_good: int

    @property
    def num_bad(self) -> int:
        """Bad values in all."""
        return int(self.hits[-1])


def rank(good: Scores, bad: Scores, weights: Weights | None = None) -> Ranking:
    """Sort scores into a `Ranking`.

    Args:
        good, bad: finite scores of normal and of defective values, in any order; at least one of each.
        weights: of the bad values, adding up to 1; None: all the same.
    """
    good = np.sort(good)
    order = np.argsort(bad, kind="stable") if weights is not None else None
    bad = np.sort(bad) if order is None else bad[order]
    first = np.flatnonzero(np.concatenate([[True], bad[1:] != bad[:-1]]))  # of each run of equal scores
    counts = np.diff(first, append=len(bad))
    if weights is None or order is None:
        gains = counts / len(bad)
    else:
        gains = np.add.reduceat(weights[order], first)
    distinct = bad[first]
    return Ranking(
        hits=np.cumsum(counts[::-1]),
        gains=gains[::-1],
        above=len(good) - np.searchsorted(good, distinct, side="right")[::-1],
        false_alarms=len(good) - np.searchsorted(good, distinct, side="left")[::-1],
        num_good=len(good),
    )


def area(ranking: Ranking, limit: float = 1.0) -> float:
    """Area under the curve of gains over the share of false alarms up to `limit`, as a share of `limit`.

    With equal weights and no limit the area under the ROC curve; ties are met by straight lines.
    """
    left, right = ranking.above / ranking.num_good, ranking.false_alarms / ranking.num_good
    after = np.cumsum(ranking.gains)
    before = after - ranking.gains
    ends = np.append(left[1:], 1.0)  # between two corners the curve is level
    level = after * (np.clip(ends, None, limit) - np.clip(right, None, limit))
    # up a tie's slope, cut off at the limit
    width = right - left
    inside = np.clip(right, None, limit) - np.clip(left, None, limit)
    share = np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
    slope = inside * (before + share * ranking.gains / 2)
    return float((level.sum() + slope.sum()) / limit)


def auroc(ranking: Ranking) -> float:
    """Probability that a bad value scores higher than a good one (half of it for equal scores); in whole numbers."""
    bad = np.diff(ranking.hits, prepend=0)
    good = ranking.num_good
    twice = int((bad * (2 * good - ranking.above - ranking.false_alarms)).sum())
    return twice / (2 * good * ranking.num_bad)


def average_precision(ranking: Ranking) -> float:
    """Mean over the bad values of the precision at their score, without interpolation."""
    precision = ranking.hits / (ranking.hits + ranking.false_alarms)
    return float((precision * np.diff(ranking.hits, prepend=0)).sum() / ranking.num_bad)


def f1_max(ranking: Ranking) -> float:
    """The best F1 score that any threshold gives."""
    return float((2 * ranking.hits / (ranking.hits + ranking.false_alarms + ranking.num_bad)).max())
