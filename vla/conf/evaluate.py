"""`EvaluateConfig`: how a trained model is evaluated on held-out episodes."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_positive


@dataclass(frozen=True)
class EvaluateConfig:
    """Compare what the model of `checkpoint` predicts on held-out episodes with what was demonstrated."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    output_dir: Path | None = None  # where evaluation/ is written; none: the run folder
    dataset_root: Path | None = None  # the data, if it isn't where it was in training any more
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda
    batch_size: int = 16
    max_batches: int | None = None  # none: all held-out episodes
    override_contract: tuple[str, ...] = ()  # fields (dotted names) in which checkpoint and data may differ, each named

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_positive(self, "batch_size", "max_batches")
