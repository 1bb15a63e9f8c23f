"""`BaselinesConfig`: what a trained anomaly detector is compared with."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive

NAMES = ("patch-memory", "position-gaussian")


@dataclass(frozen=True)
class BaselinesConfig:
    """Fit baselines on the features that the detector of `checkpoint` sees, and evaluate all on the same pictures."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    output_dir: Path | None = None  # where baselines/ is written; none: evaluation/ of the run
    dataset_root: Path | None = None  # the data, if it isn't where it was in training any more
    names: tuple[str, ...] = NAMES  # patch-memory (as PatchCore), position-gaussian (as PaDiM)
    per_class: bool = False  # also one baseline for each class, which has to be known then
    memory_size: int = 4000  # patches that patch-memory remembers, of each detector
    sigma: float = 4.0  # pixels: smoothing of the baselines' maps; 0: none
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda
    batch_size: int = 16

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)
        for name in self.names:
            require("names", name in NAMES, f"must be of {', '.join(NAMES)}", name)
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_positive(self, "batch_size", "memory_size")
        require_nonnegative(self, "sigma")
