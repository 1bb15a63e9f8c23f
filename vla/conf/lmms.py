"""`LmmsConfig`: how a vision-language model is evaluated on benchmarks of lmms-eval."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_positive


@dataclass(frozen=True)
class LmmsConfig:
    """Evaluate the model of `checkpoint` on benchmarks of lmms-eval, which is an extra: pip install '.[lmms-eval]'."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    lmms_tasks: tuple[str, ...] = ()  # names of lmms-eval, such as mmstar,ocrbench,chartqa
    limit: int | None = None  # samples of a task; none: all
    batch_size: int = 16  # questions at once
    output_dir: Path | None = None  # where evaluation/lmms/ is written; none: the run folder
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)
        require("lmms_tasks", bool(self.lmms_tasks), "must name tasks of lmms-eval", self.lmms_tasks)
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_positive(self, "limit", "batch_size")
