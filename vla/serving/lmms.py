"""Benchmarks of lmms-eval with the models of this toolkit. The library is an extra, imported when it is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vla.conf.lmms import LmmsConfig
from vla.errors import UserError
from vla.overwatch.distributed import destroy_distributed, initialize_distributed
from vla.serving.vlm import VLM, load
from vla.training.checkpoint_store import find_checkpoint
from vla.training.evaluate import run_dir_of
from vla.training.evaluation_files import replace_file

FOLDER = "lmms"
MAX_NEW_TOKENS = 50  # of an answer, where a task doesn't say


def run(config: LmmsConfig) -> int:
    """The program behind `scripts/evaluate.py --lmms_tasks`; returns the exit code."""
    assert config.checkpoint is not None
    import_lmms()  # before a model is loaded
    folder = find_checkpoint(config.checkpoint, prefer="best")
    dist = initialize_distributed(config.device)
    try:
        model = load(folder, device=dist.device)
        found = evaluate_tasks(model, config.lmms_tasks, limit=config.limit, batch_size=config.batch_size)
    finally:
        destroy_distributed(dist)
    output = (config.output_dir or run_dir_of(folder)) / "evaluation" / FOLDER
    output.mkdir(parents=True, exist_ok=True)
    content = {"checkpoint": folder.name, "limit": config.limit, "results": found}
    replace_file(output / "results.json", (json.dumps(content, indent=1) + "\n").encode())
    for name, value in found.items():
        print(f"{name:48} {value:.4g}")
    return 0


def import_lmms() -> Any:
    """The library's module `evaluator`.

    Raises:
        UserError: it is not installed; one line that names the extra.
    """
    try:
        from lmms_eval import evaluator
    except ImportError as error:
        raise UserError(f"lmms_tasks: lmms-eval can't be imported ({error}); pip install '.[lmms-eval]'") from error
    return evaluator


def evaluate_tasks(model: VLM, tasks: Sequence[str], *, limit: int | None, batch_size: int) -> dict[str, float]:
    """Every number that the tasks give, as `<task>_<metric>`.

    Args:
        model: what answers.
        tasks: names that lmms-eval knows, groups too.
        limit: samples of each task; None: all.
        batch_size: questions at once.

    Raises:
        UserError: the library isn't there, or knows no such task.
    """
    evaluator = import_lmms()
    try:
        found = evaluator.simple_evaluate(
            model=_adapter(model, batch_size), tasks=list(tasks), limit=limit, log_samples=False, bootstrap_iters=0
        )
    except (KeyError, ValueError, AssertionError) as error:
        raise UserError(f"lmms_tasks: {', '.join(tasks)}: {type(error).__name__}: {error}") from error
    return flatten((found or {}).get("results", {}))


def flatten(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Numbers of `{task: {"metric,filter": value}}` as `<task>_<metric>`; what is no number is left out."""
    return {
        f"{task}_{metric.partition(',')[0]}": float(value)
        for task, metrics in results.items()
        for metric, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def answer(model: VLM, asked: Sequence[tuple[str, list[Any], Mapping[str, Any]]], batch_size: int) -> list[str]:
    """
    Answers in the order of what is asked; questions with the same settings go together, longest first.

    Args:
        model: what answers.
        asked: of each question its text, its pictures (PIL), and the task's settings: `max_new_tokens`; `temperature`
            and `top_p` where it is to `do_sample`. All others, such as `until`, are passed over.
        batch_size: questions at once.
    """
    answers = [""] * len(asked)
    groups: dict[str, list[int]] = {}
    for number, (_, _, settings) in enumerate(asked):
        groups.setdefault(json.dumps(_sampling(settings), sort_keys=True), []).append(number)
    for key, numbers in groups.items():
        numbers.sort(key=lambda number: -len(asked[number][0]))
        for start in range(0, len(numbers), batch_size):
            chosen = numbers[start : start + batch_size]
            prompts = []
            for number in chosen:
                prompt = model.get_prompt_builder()
                prompt.add_turn("human", asked[number][0])
                prompts.append(prompt)
            pictures = [_pictures(model, asked[number][1]) for number in chosen]
            texts = model.generate_batch(pictures, prompts, **json.loads(key))
            for number, text in zip(chosen, texts, strict=True):
                answers[number] = str(text)
    return answers


def _pictures(model: VLM, pictures: Iterable[Any]) -> Any:
    """What `generate_batch` takes: all pictures of a question, or its first where a model sees one."""
    seen = list(pictures)
    if model.sees_several_pictures:
        return seen
    return seen[0] if seen else None


def _sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {"max_new_tokens": int(settings.get("max_new_tokens") or MAX_NEW_TOKENS)}
    if settings.get("do_sample") and settings.get("temperature"):
        chosen["temperature"] = float(settings["temperature"])
        if settings.get("top_p"):
            chosen["top_p"] = float(settings["top_p"])
    return chosen


def _adapter(model: VLM, batch_size: int) -> Any:
    """`model` as lmms-eval knows models; its class can't be defined before the library is imported."""
    from lmms_eval.api.model import lmms

    class Adapter(lmms):
        """Answers questions; what needs likelihoods, or several rounds, is not supported."""

        is_simple = True
        batch_size_per_gpu = batch_size

        def generate_until(self, requests: Any) -> list[str]:
            asked = []
            for request in requests:
                text, settings, to_pictures, number, task, split = request.args
                asked.append((text, to_pictures(self.task_dict[task][split][number]) or [], settings))
            return answer(model, asked, batch_size)

        def loglikelihood(self, requests: Any) -> Any:
            raise NotImplementedError("likelihoods of given answers are not supported: choose tasks that generate")

        def generate_until_multi_round(self, requests: Any) -> Any:
            raise NotImplementedError("tasks of several rounds are not supported")

    return Adapter()
