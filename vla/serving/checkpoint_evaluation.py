"""`python -m vla.serving.checkpoint_evaluation FOLDER PART`: one part of what is asked of a checkpoint.

`vla.training.background_evaluation` starts it.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vla.conf.json_files import read_json_object
from vla.conf.questions import QuestionsConfig
from vla.training.checkpoint_files import write_json
from vla.training.evaluation_jobs import CHECKPOINT, REQUEST, Job
from vla.training.evaluation_requests import QUESTIONS

FAILURES = (Exception, SystemExit)  # libraries end the program, too


def main(words: Sequence[str]) -> int:
    """
    Evaluate, and write results, or in one line why there are none, where the training looks for them.

    Args:
        words: the evaluation's folder and the name of a part, see `vla.training.evaluation_jobs`.

    Returns:
        Exit code: 0, or 1 after a failure.
    """
    folder, part = words
    job = Job(Path(folder), part)
    request = read_json_object(job.folder / REQUEST)
    if request["niceness"] and hasattr(os, "nice"):
        os.nice(request["niceness"])
    answer: dict[str, Any] = {"global_step": request["global_step"]}
    try:
        answer["results"] = evaluate_part(job, request)
    except FAILURES as error:
        traceback.print_exc()
        answer["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    write_json(job.file("json"), answer)
    return int("error" in answer)


def evaluate_part(job: Job, request: dict[str, Any]) -> dict[str, float]:
    """Metrics by name: `questions/...` or `lmms_eval/...`."""
    import torch

    device = request["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if job.part == QUESTIONS:
        return _ask(job, request["questions"], device)
    from vla.serving.lmms import evaluate_tasks
    from vla.serving.vlm import load

    model = load(job.folder / CHECKPOINT, device=device)
    return {f"lmms_eval/{name}": value for name, value in evaluate_tasks(model, [job.part], **request["lmms"]).items()}


def _ask(job: Job, asked: dict[str, Any], device: str) -> dict[str, float]:
    from vla.serving.question_answering import evaluate

    paths = {name: None if asked[name] is None else Path(asked[name]) for name in ("questions", "images")}
    checkpoint = job.folder / CHECKPOINT
    config = QuestionsConfig(checkpoint, **(asked | paths))
    rows = evaluate(checkpoint, job.folder / QUESTIONS, config, device)
    found = {f"questions/{row.kind}_accuracy": row.accuracy for row in rows}
    if any(row.majority_answer for row in rows):
        found["questions/majority_accuracy"] = rows[-1].majority_accuracy
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
