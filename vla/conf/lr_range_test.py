"""`LRRangeTestConfig`: a training run that only looks for its learning rate."""

from dataclasses import dataclass

from vla.conf.checks import require, require_positive
from vla.conf.pretrain import PretrainConfig


@dataclass(frozen=True)
class LRRangeTestConfig(PretrainConfig):
    """Learning-rate range test of a training run: the rate grows step by step; the loss shows which ones work."""

    range_start: float = 1e-6  # first learning rate
    range_end: float = 1.0  # last learning rate; the test ends sooner when the loss explodes
    range_steps: int = 100  # optimizer steps

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "range_start", "range_steps")
        require("range_steps", self.range_steps >= 2, "must be >= 2", self.range_steps)
        rule = f"must be > range_start ({self.range_start})"
        require("range_end", self.range_end > self.range_start, rule, self.range_end)
