"""Questions about pictures: each asked alone, answers compared, everything written."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vla.conf.questions import QuestionsConfig
from vla.errors import UserError
from vla.evaluation.question_answering import Answered, accuracies
from vla.prompting import PromptBuilder, get_prompt_builder
from vla.serving.question_answering import ask, read_pictures, write


class Guesser:
    """Sees how bright a picture is; says "left" to everything else."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def get_prompt_builder(self) -> PromptBuilder:
        return get_prompt_builder("pure")

    def generate_batch(self, images: list[Any], prompts: list[PromptBuilder], *, max_new_tokens: int) -> list[str]:
        self.prompts += [prompt.get_prompt() for prompt in prompts]
        return [
            ("Bright." if image is not None and image.getpixel((0, 0))[0] > 100 else "dark")
            if "bright" in prompt.get_prompt()
            else "left"
            for image, prompt in zip(images, prompts, strict=True)
        ]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = []
    for number, value in enumerate((20, 220)):
        Image.new("RGB", (8, 8), (value,) * 3).save(tmp_path / f"{number}.png")
        turns = [
            ("human", "<image>\nIs it bright or dark?"), ("gpt", "bright" if value > 100 else "dark"),
            ("human", "To the left or the right?"), ("gpt", "right"),
        ]  # fmt: skip
        conversation = [{"from": role, "value": text} for role, text in turns]
        rows.append({"id": str(number), "image": f"{number}.png", "conversations": conversation,
                     "kinds": ["light", "side"]})  # fmt: skip
    rows.append({"id": "text", "conversations": conversation})  # about no picture
    path = tmp_path / "validation.json"
    path.write_text(json.dumps(rows))
    return path


def test_every_question_is_asked_by_itself(questions: Path) -> None:
    model: Any = Guesser()
    answered = list(ask(model, read_pictures(questions), 4))
    assert [item.correct for item in answered] == [True, False, True, False]
    assert model.prompts[:2] == ["In: Is it bright or dark?\nOut:", "In: To the left or the right?\nOut:"]
    blind = list(ask(Guesser(), read_pictures(questions), 4, blind=True))  # type: ignore[arg-type]
    assert [item.correct for item in blind] == [True, False, False, False]


def test_results_are_written(questions: Path, tmp_path: Path) -> None:
    model: Any = Guesser()
    pictures = read_pictures(questions)
    answered = list(ask(model, pictures, 4))
    config = QuestionsConfig(checkpoint=tmp_path, questions=questions)
    write(tmp_path / "out", accuracies(answered, {"light": "dark"}), pictures, answered, config, "step-000001")
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [row["accuracy"] for row in results["accuracy"]] == [1.0, 0.0, 0.5]
    assert results["accuracy"][0]["majority_accuracy"] == 0.5
    assert results["answers"][1] == {
        "kind": "side", "question": "To the left or the right?", "answer": "right", "predicted": "left",
        "correct": False,
    }  # fmt: skip
    assert "| light | 2 | 100.0% |" in (tmp_path / "out/summary.md").read_text()
    assert Image.open(tmp_path / "out/examples.png").size[0] > 800


def test_questions_of_a_saved_dataset(tmp_path: Path) -> None:
    """Rows about one picture, by configuration; no file of training questions beside is taken for theirs."""
    datasets = pytest.importorskip("datasets")
    for name in ("colours", "shapes"):
        rows = []
        for number, value in enumerate((20, 220)):
            picture = tmp_path / f"{number}.png"
            Image.new("RGB", (8, 8), (value,) * 3).save(picture)
            texts = [{"user": "Is it bright or dark?", "assistant": "bright" if value > 100 else "dark"}]
            rows.append({"images": [{"bytes": picture.read_bytes(), "path": None}], "texts": texts})
        rows.append({"images": [rows[0]["images"][0]] * 2, "texts": texts})
        datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "sets" / name))
    pictures = read_pictures(tmp_path / "sets", limit=3)
    assert [picture.questions[0][0] for picture in pictures] == ["colours", "colours", "shapes"]
    answered = list(ask(Guesser(), pictures, 4))  # type: ignore[arg-type]
    assert all(item.correct for item in answered)
    config = QuestionsConfig(checkpoint=tmp_path, questions=tmp_path / "sets")
    write(tmp_path / "out", accuracies(answered, {}), pictures, answered, config, "step-000001")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="^questions: .* holds neither"):
        read_pictures(tmp_path / "empty")


def test_questions_are_of_the_held_out_split(tmp_path: Path) -> None:
    """Where a folder has several splits, as files or saved."""
    datasets = pytest.importorskip("datasets")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    image = {"bytes": (tmp_path / "a.png").read_bytes(), "path": None}
    parts = {}
    for split in ("train", "validation"):
        row = {"images": [image], "texts": [{"user": f"Of {split}?", "assistant": "yes"}]}
        parts[split] = datasets.Dataset.from_list([row])
    (tmp_path / "files" / "data").mkdir(parents=True)
    for split, part in parts.items():
        part.to_parquet(str(tmp_path / "files" / "data" / f"{split}-00000-of-00001.parquet"))
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    for folder in ("files", "saved"):
        (picture,) = read_pictures(tmp_path / folder)
        assert picture.questions[0][1] == "Of validation?"


@pytest.mark.parametrize("content", ["", "[]", '[{"image": "a.png"}]', "not JSON"])
def test_bad_files_are_errors_of_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match="^questions: ") as raised:
        read_pictures(path)
    assert "\n" not in str(raised.value)


def test_kinds_must_fit_the_questions(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([{"id": "x", "image": "a.png", "conversations": turns, "kinds": ["one", "two"]}]))
    with pytest.raises(UserError, match="x: 2 kinds of 1 questions"):
        read_pictures(path)


def test_answers_are_normalised() -> None:
    assert Answered("k", "q", "red", "Red.\nIn: more").correct
