"""`QuestionsConfig`: how a vision-language model is evaluated on questions about pictures."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_choice, require_positive


@dataclass(frozen=True)
class QuestionsConfig:
    """Ask the model of `checkpoint` questions about pictures, each by itself, and count the right answers."""

    checkpoint: Path | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    questions: Path | None = None  # file in LLaVA's format (rows may name `kinds`), or folder in that of `datasets`
    images: Path | None = None  # folder that its image paths start from; none: that of the file
    training_questions: Path | None = None  # file for the majority answers; none: finetune.json beside, if there
    max_pictures: int | None = None  # the first ones; none: all
    blind: bool = False  # ask without the pictures, of a model that was trained without them
    max_new_tokens: int = 8  # of an answer
    output_dir: Path | None = None  # where evaluation/questions/ is written; none: the run folder
    device: str = "auto"  # auto (CUDA when there is any) | cpu | cuda

    def __post_init__(self) -> None:
        require("checkpoint", self.checkpoint is not None, "must name a run or checkpoint folder", self.checkpoint)
        require("questions", self.questions is not None, "must name a file in LLaVA's format", self.questions)
        require_choice(self, "device", ("auto", "cpu", "cuda"))
        require_positive(self, "max_pictures", "max_new_tokens")
