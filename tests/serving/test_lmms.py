"""Benchmarks of lmms-eval, with a stand-in for the library; the model's side of it is real."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vla.conf.lmms import LmmsConfig
from vla.errors import UserError
from vla.prompting import PromptBuilder, get_prompt_builder
from vla.serving import lmms


class Echo:
    """Answers with the number of pictures and the question; remembers its batches."""

    sees_several_pictures = True

    def __init__(self) -> None:
        self.batches: list[tuple[int, dict[str, Any]]] = []

    def get_prompt_builder(self) -> PromptBuilder:
        return get_prompt_builder("pure")

    def generate_batch(self, images: list[Any], prompts: list[PromptBuilder], **sampling: Any) -> list[str]:
        self.batches.append((len(prompts), sampling))
        count = [len(image) if isinstance(image, list) else int(image is not None) for image in images]
        return [f"{number} {p.turns[0][4:-5].strip()}" for number, p in zip(count, prompts, strict=True)]


class Instance:
    def __init__(self, *args: Any) -> None:
        self.args = args


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """What `vla.serving.lmms` uses of the library: a base class, and a function that asks two questions of a task."""

    class Base:
        def __init__(self) -> None:
            self.task_dict: dict[str, Any] = {}

    library = types.SimpleNamespace(calls=[])

    def simple_evaluate(model: Any, tasks: list[str], limit: int | None, **options: Any) -> dict[str, Any]:
        library.calls.append((tasks, limit, options))
        if "unknown" in tasks:
            raise KeyError("unknown")
        docs = [{"image": Image.new("RGB", (8, 8))}, {"image": None}]
        model.task_dict["toy"] = {"test": docs}
        settings = {"max_new_tokens": 3, "until": ["\n"], "do_sample": False, "temperature": 0}
        requests = [
            Instance(text, dict(settings), lambda doc: [doc["image"]] if doc["image"] else None, number, "toy", "test")
            for number, text in enumerate(("one?", "two?"))
        ]
        answers = model.generate_until(requests)
        score = sum(answer == expected for answer, expected in zip(answers, ("1 one?", "0 two?"), strict=True)) / 2
        return {"results": {"toy": {"alias": "toy", "exact_match,none": score, "exact_match_stderr,none": "N/A",
                                    "higher_is_better": True}}}  # fmt: skip

    package, api = types.ModuleType("lmms_eval"), types.ModuleType("lmms_eval.api")
    model, evaluator = types.ModuleType("lmms_eval.api.model"), types.ModuleType("lmms_eval.evaluator")
    model.lmms, evaluator.simple_evaluate = Base, simple_evaluate  # type: ignore[attr-defined]
    package.evaluator = evaluator  # type: ignore[attr-defined]
    for name, module in {"": package, ".api": api, ".api.model": model, ".evaluator": evaluator}.items():
        monkeypatch.setitem(sys.modules, f"lmms_eval{name}", module)
    return library


def test_numbers_of_a_task(library: types.SimpleNamespace) -> None:
    model: Any = Echo()
    assert lmms.evaluate_tasks(model, ["toy"], limit=2, batch_size=4) == {"toy_exact_match": 1.0}
    assert library.calls[0][:2] == (["toy"], 2)
    assert model.batches == [(2, {"max_new_tokens": 3})]
    with pytest.raises(UserError, match="lmms_tasks: toy, unknown: KeyError"):
        lmms.evaluate_tasks(model, ["toy", "unknown"], limit=None, batch_size=4)


def test_questions_of_one_kind_go_together_longest_first() -> None:
    model: Any = Echo()
    drawn = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 9}
    asked: list[Any] = [("bb", [], {}), ("a", [1, 2], {}), ("ccc", [1], drawn), ("dddd", [], {})]
    assert lmms.answer(model, asked, 2) == ["0 bb", "2 a", "1 ccc", "0 dddd"]
    greedy = {"max_new_tokens": lmms.MAX_NEW_TOKENS}
    sampled = {"max_new_tokens": 9, "temperature": 0.7, "top_p": 0.9}
    assert model.batches == [(2, greedy), (1, greedy), (1, sampled)]
    model.sees_several_pictures = False
    assert lmms.answer(model, asked[:2], 2) == ["0 bb", "1 a"]


def test_without_the_library_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    with pytest.raises(UserError, match=r"pip install '\.\[lmms-eval\]'$"):
        lmms.run(LmmsConfig(checkpoint=tmp_path, lmms_tasks=("mmstar",)))


def test_results_are_written(library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(lmms, "find_checkpoint", lambda path, prefer: path)
    monkeypatch.setattr(lmms, "load", lambda path, device: Echo())
    assert lmms.run(LmmsConfig(checkpoint=tmp_path, lmms_tasks=("toy",), limit=2, device="cpu")) == 0
    found = json.loads((tmp_path / "evaluation/lmms/results.json").read_text())
    assert found["results"] == {"toy_exact_match": 1.0} and "toy_exact_match" in capsys.readouterr().out
