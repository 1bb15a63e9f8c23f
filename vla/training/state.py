"""`TrainerState`: where a run stands. All of it is plain JSON."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class TrainerState:
    """Where a run stands between two optimizer steps."""

    total_steps: int = 0  # of the whole run
    steps_per_epoch: int = 1
    global_step: int = 0  # windows done, those with nothing to learn included
    epoch: int = 0  # whole epochs done
    step_in_epoch: int = 0
    skipped_steps: int = 0  # windows without a single value to learn from
    overflow_steps: int = 0  # fp16: steps not taken because the scaled gradients overflowed
    nonfinite_steps: int = 0  # steps not taken because loss or gradient was not finite
    nonfinite_in_a_row: int = 0  # of them, those since the last step that was taken
    elapsed: float = 0.0  # seconds of training, over all resumptions

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.global_step >= self.total_steps

    @property
    def fractional_epoch(self) -> float:
        """Epochs done, with the part of the current one."""
        return self.epoch + self.step_in_epoch / self.steps_per_epoch

    def advance(self) -> None:
        """One more step is done."""
        self.global_step += 1
        self.step_in_epoch += 1
        if self.step_in_epoch == self.steps_per_epoch:
            self.epoch, self.step_in_epoch = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the position from `state`; the lengths of run and epoch stay those of this run's configuration."""
        for name in ("global_step", "epoch", "step_in_epoch", "skipped_steps", "overflow_steps", "elapsed"):
            setattr(self, name, state[name])
        for name in ("nonfinite_steps", "nonfinite_in_a_row"):  # earlier versions stopped at the first
            setattr(self, name, state.get(name, 0))
