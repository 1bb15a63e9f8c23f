"""When something is due: every N optimizer steps, every N epochs, and at the end."""

from dataclasses import dataclass

from vla.training.state import TrainerState


@dataclass(frozen=True)
class Interval:
    """Due every `steps` steps and at the end of every `epochs`-th epoch; None never."""

    steps: int | None = None
    epochs: int | None = None

    def due(self, state: TrainerState) -> bool:
        """Whether it is due after the step that led to `state`; the last step of a run always is."""
        if state.finished:
            return True
        if self.steps is not None and state.global_step % self.steps == 0:
            return True
        return self.epochs is not None and state.step_in_epoch == 0 and state.epoch % self.epochs == 0
