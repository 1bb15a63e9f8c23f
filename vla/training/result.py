"""How a training run ends."""

from dataclasses import dataclass
from pathlib import Path

FINISHED = ("completed", "early stopping")  # reasons to end after which there is nothing more to do


class NonFiniteError(RuntimeError):
    """The gradient of a step is infinite or not a number."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    global_step: int
    reason: str  # completed | early stopping | name of the signal that stopped it
    best_value: float | None  # of evaluation.metric
    best_checkpoint: Path | None
    last_checkpoint: Path | None
    save_error: str | None = None  # why the last step is not saved

    @property
    def interrupted(self) -> bool:
        """Whether there is more to do: `--resume auto` goes on."""
        return self.reason not in FINISHED
