"""Success rates with the interval that belongs to them, per task and over all tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

SUCCESS, FAILURE, ERROR = "success", "failure", "error"


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate: it holds at 0 % and 100 % too, where a standard error would be zero.

    Args:
        successes: of `episodes`.
        episodes: independent tries; none at all gives (0, 1).
        confidence: of the two-sided interval.

    Raises:
        ValueError: `successes` is not between 0 and `episodes`, or `confidence` not between 0 and 1.
    """
    if not 0 <= successes <= episodes:
        raise ValueError(f"successes: must be in [0, {episodes}], got {successes}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: must be in (0, 1), got {confidence}")
    if episodes == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, spread = successes / episodes, z * z / episodes
    center = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(rate * (1 - rate) * spread + spread * spread / 4) / (1 + spread)
    low = 0.0 if successes == 0 else center - half  # exact where rounding would give 1e-17
    high = 1.0 if successes == episodes else center + half
    return low, high


@dataclass(frozen=True)
class SuccessRate:
    """Outcomes of some episodes.

    Attributes:
        successes: the goal was reached within the horizon.
        episodes: that ran to their end; the number that `rate` is of.
        errors: episodes without an outcome (the simulator crashed or hung twice); in no other number.
        distinct_initial_states: among `episodes`; fewer than those means that a state was counted more than once.
        mean_steps: control steps of the successes; None without any.
    """

    successes: int
    episodes: int
    errors: int = 0
    distinct_initial_states: int = 0
    mean_steps: float | None = None

    @property
    def rate(self) -> float:
        """Share of successes; NaN if no episode ran to its end."""
        return self.successes / self.episodes if self.episodes else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval."""
        return wilson_interval(self.successes, self.episodes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the rate is None if there is none."""
        low, high = self.interval
        return {**asdict(self), "rate": self.rate if self.episodes else None, "low": low, "high": high}

    def __str__(self) -> str:
        if not self.episodes:
            return "no episode finished"
        low, high = self.interval
        return f"{self.successes}/{self.episodes} = {self.rate:.1%} [{low:.1%}, {high:.1%}]"


def success_rate(outcomes: Iterable[tuple[str, str, int]]) -> SuccessRate:
    """Count outcomes.

    Args:
        outcomes: (`success` | `failure` | `error`, the initial state's hash, control steps) of each episode.
    """
    rows = list(outcomes)
    finished = [row for row in rows if row[0] in (SUCCESS, FAILURE)]
    steps = [row[2] for row in finished if row[0] == SUCCESS]
    return SuccessRate(
        successes=len(steps),
        episodes=len(finished),
        errors=len(rows) - len(finished),
        distinct_initial_states=len({row[1] for row in finished}),
        mean_steps=sum(steps) / len(steps) if steps else None,
    )
