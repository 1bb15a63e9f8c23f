"""`BackgroundEvaluationConfig`: evaluations of checkpoints that the training doesn't wait for."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_nonnegative, require_positive

RUNNERS = ("local", "slurm")


@dataclass(frozen=True)
class BackgroundEvaluationConfig:
    """Evaluations of vision-language checkpoints by other processes, while the training goes on."""

    every_steps: int | None = None  # optimizer steps between two of them, and at the end; none: never
    questions: Path | None = None  # LLaVA's file or folder of `datasets`: right answers to its questions are counted
    images: Path | None = None  # folder that its image paths start from; none: that of the file
    max_pictures: int | None = 64  # the first ones of questions; none: all
    max_new_tokens: int = 8  # of an answer to questions
    lmms_tasks: tuple[str, ...] = ()  # of lmms-eval (pip install '.[lmms-eval]'), each in a process of its own
    lmms_limit: int | None = None  # samples of a task; none: all
    lmms_batch_size: int = 16  # samples at once
    runner: str = "local"  # local: processes on this machine | slurm: jobs, started with sbatch
    max_processes: int = 1  # that run at once
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda
    threads: int = 1  # local: of a process on a CPU
    sbatch_options: tuple[str, ...] = ()  # slurm: words for sbatch, such as --gres=gpu:1
    wait_minutes: float = 60.0  # for results at the end; --resume auto picks up what comes later

    def __post_init__(self) -> None:
        require_positive(self, "every_steps", "max_pictures", "max_new_tokens", "lmms_limit", "lmms_batch_size")
        require_positive(self, "max_processes", "threads")
        require_choice(self, "runner", RUNNERS)
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_nonnegative(self, "wait_minutes")
        asked = self.questions is not None or bool(self.lmms_tasks)
        require("every_steps", self.every_steps is None or asked, "needs questions or lmms_tasks", self.every_steps)
