"""Which evaluation is the best so far, and whether it is time to give up."""

import math
from typing import Any

from vla.conf.pretrain import EvaluationConfig
from vla.errors import UserError


class BestMetric:
    """Watches one metric of the evaluations.

    Args:
        config: `metric`, `mode` (min | max), `min_delta` (a smaller change is no improvement), `patience`
            (evaluations without improvement before `should_stop`; None: never).
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self.config = config
        self.value: float | None = None
        self.step: int | None = None
        self.evaluations_since = 0

    def update(self, metrics: dict[str, float], step: int) -> bool:
        """Take in the metrics of an evaluation at `step`; returns whether it is the best so far.

        Raises:
            UserError: the metric is not among them.
        """
        name = self.config.metric
        if name not in metrics:
            known = ", ".join(sorted(metrics))
            raise UserError(f"evaluation.metric: must be one of the evaluation's ({known}), got {name!r}")
        if self._improves(metrics[name]):
            self.value, self.step, self.evaluations_since = metrics[name], step, 0
            return True
        self.evaluations_since += 1
        return False

    def _improves(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.value is None:
            return True
        gain = self.value - value if self.config.mode == "min" else value - self.value
        return gain > self.config.min_delta

    @property
    def should_stop(self) -> bool:
        """Whether `patience` evaluations in a row brought no improvement."""
        return self.config.patience is not None and self.evaluations_since >= self.config.patience

    def state_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"value": self.value, "step": self.step, "evaluations_since": self.evaluations_since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.value, self.step = state["value"], state["step"]
        self.evaluations_since = state["evaluations_since"]
