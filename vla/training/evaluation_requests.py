"""What is asked of a checkpoint that is evaluated in the background, and whether it can be."""

import shutil
from importlib.util import find_spec
from typing import Any

from vla.conf.pretrain import PretrainConfig
from vla.errors import UserError

QUESTIONS = "questions"  # the part that is built in; all others are tasks of lmms-eval
LMMS_MODULE = "lmms_eval"
NICENESS = 10  # by how much a local evaluation steps back behind the training


def make_request(config: PretrainConfig, step: int) -> dict[str, Any]:
    """The request for the checkpoint of `step`, as JSON values."""
    settings = config.evaluation.background
    questions = None if settings.questions is None else str(settings.questions.resolve())
    images = None if settings.images is None else str(settings.images.resolve())
    return {
        "global_step": step,
        "parts": [*([QUESTIONS] if questions else []), *settings.lmms_tasks],
        "device": settings.device,
        "niceness": NICENESS if settings.runner == "local" else 0,
        "questions": {
            "questions": questions, "images": images, "max_pictures": settings.max_pictures,
            "max_new_tokens": settings.max_new_tokens,
        },
        "lmms": {"limit": settings.lmms_limit, "batch_size": settings.lmms_batch_size},
    }  # fmt: skip


def check_background(config: PretrainConfig) -> None:
    """Raise UserError, one line, if what the background evaluation of `config` needs isn't there."""
    settings, field = config.evaluation.background, "evaluation.background"
    if settings.every_steps is None:
        return
    if settings.questions is not None and not settings.questions.exists():
        raise UserError(f"{field}.questions: there is no file or folder {settings.questions}")
    if settings.lmms_tasks and find_spec(LMMS_MODULE) is None:
        raise UserError(f"{field}.lmms_tasks: lmms-eval is not installed; pip install '.[lmms-eval]'")
    if settings.runner == "slurm" and shutil.which("sbatch") is None:
        raise UserError(f"{field}.runner: slurm needs sbatch, which is not on the PATH; pass local")
