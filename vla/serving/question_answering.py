"""Asking a vision-language model questions about pictures (scripts/evaluate.py --questions)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from vla.conf.json_files import read_json
from vla.conf.questions import QuestionsConfig
from vla.conf.vqa_datasets import VQAConfig
from vla.data.errors import one_line
from vla.data.pictures import UNREADABLE
from vla.data.vqa.hugging_face import held_out_split, open_tables
from vla.data.vqa.images import open_image
from vla.data.vqa.sources import Tables
from vla.errors import UserError
from vla.evaluation.question_answering import (
    OTHER_KIND,
    Answered,
    KindAccuracy,
    accuracies,
    majority_answers,
    table,
    to_dict,
)
from vla.overwatch.distributed import destroy_distributed, initialize_distributed
from vla.prompting import IMAGE_TOKEN, PromptBuilder
from vla.serving.question_sheet import draw_examples
from vla.serving.vlm import VLM, load, read_picture
from vla.training.checkpoint_store import find_checkpoint
from vla.training.evaluate import run_dir_of

FOLDER, BLIND_FOLDER = "questions", "questions-blind"
TRAINING_FILE = "finetune.json"


@dataclass(frozen=True)
class Picture:
    """A picture, or its path, and what is asked about it: (kind, question, answer) each."""

    image: Path | Image.Image
    questions: list[tuple[str, str, str]]


def run(config: QuestionsConfig) -> int:
    """The program behind `scripts/evaluate.py --questions`; returns the exit code."""
    assert config.checkpoint is not None
    folder = find_checkpoint(config.checkpoint, prefer="best")
    output = (config.output_dir or run_dir_of(folder)) / "evaluation" / (BLIND_FOLDER if config.blind else FOLDER)
    dist = initialize_distributed(config.device)
    try:
        rows = evaluate(folder, output, config, dist.device)
    finally:
        destroy_distributed(dist)
    print(table(rows))
    return 0


def evaluate(checkpoint: Path, output: Path, config: QuestionsConfig, device: str) -> list[KindAccuracy]:
    """Ask the model of a checkpoint the questions of `config`, and write into `output` what it said.

    Raises:
        UserError: the file of questions or the checkpoint can't be read.
    """
    assert config.questions is not None
    pictures = read_pictures(config.questions, config.images, config.max_pictures)
    model = load(checkpoint, device=device)
    answered = list(ask(model, track(pictures, "pictures"), config.max_new_tokens, blind=config.blind))
    rows = accuracies(answered, _majority(config))
    write(output, rows, pictures, answered, config, checkpoint.name)
    return rows


def read_pictures(path: Path, images: Path | None = None, limit: int | None = None) -> list[Picture]:
    """The pictures and questions of a file in LLaVA's format, or of a folder of data in the layout of `datasets`.

    Rows without a picture are left out, of a folder those with several, too.

    Args:
        path: file or folder.
        images: folder that a file's image paths start from; None: that of the file.
        limit: the first so many; None: all.

    Raises:
        UserError: it can't be read, or has no questions about pictures.
    """
    pictures = _read_folder(path, limit) if path.is_dir() else _read_file(path, images)[:limit]
    if not any(picture.questions for picture in pictures):
        raise UserError(f"questions: {path} has no questions about pictures")
    return pictures


def _read_folder(folder: Path, limit: int | None) -> list[Picture]:
    """Kinds of questions are the configurations that they are of."""
    try:
        source = Tables(open_tables(VQAConfig(root=folder, split=held_out_split(folder))))
    except UserError as error:
        raise UserError(str(error).replace("dataset.root", "questions", 1)) from None
    pictures: list[Picture] = []
    for index in range(len(source)):
        if len(pictures) == limit:
            break
        item, kind = source.item(index, 0), source.label(index).rpartition("[")[0]
        if len(item.get("images") or ()) == 1:
            asked = [(kind, str(turn["user"]), str(turn["assistant"])) for turn in item["texts"]]
            try:
                pictures.append(Picture(open_image(item["images"][0]).convert("RGB"), asked))
            except UNREADABLE as error:
                raise UserError(
                    f"questions: {source.label(index)}: its picture can't be read ({one_line(error)})"
                ) from error
    return pictures


def _read_file(path: Path, images: Path | None) -> list[Picture]:
    try:
        rows = read_json(path)
    except UserError as error:
        raise UserError(f"questions: {error}") from None
    try:
        return [_picture(row, images or path.parent) for row in rows if "image" in row]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"questions: {path} can't be read ({type(error).__name__}: {error})") from error


def _picture(row: dict[str, Any], folder: Path) -> Picture:
    turns = [str(turn["value"]).replace(IMAGE_TOKEN, "").strip() for turn in row["conversations"]]
    pairs = list(zip(turns[::2], turns[1::2], strict=False))
    kinds = row.get("kinds") or [OTHER_KIND] * len(pairs)
    if len(kinds) != len(pairs):
        raise ValueError(f"{row.get('id')}: {len(kinds)} kinds of {len(pairs)} questions")
    asked = [(str(kind), question, answer) for kind, (question, answer) in zip(kinds, pairs, strict=True)]
    return Picture(folder / row["image"], asked)


def ask(
    model: VLM, pictures: Iterable[Picture], max_new_tokens: int, *, blind: bool = False
) -> Iterator[Answered]:  # fmt: skip
    """Ask every question in a dialogue of its own: earlier questions and answers would give things away."""
    for picture in pictures:
        image = None if blind else read_picture(picture.image)
        prompts = [_asking(model, question) for _, question, _ in picture.questions]
        answers = model.generate_batch([image] * len(prompts), prompts, max_new_tokens=max_new_tokens)
        for (kind, question, answer), predicted in zip(picture.questions, answers, strict=True):
            yield Answered(kind, question, answer, str(predicted))


def _asking(model: VLM, question: str) -> PromptBuilder:
    prompt = model.get_prompt_builder()
    prompt.add_turn("human", question)
    return prompt


def _majority(config: QuestionsConfig) -> dict[str, str]:
    assert config.questions is not None
    path = config.training_questions or config.questions.parent / TRAINING_FILE
    if config.training_questions is None and (config.questions.is_dir() or not path.is_file()):
        return {}
    return majority_answers(
        (kind, answer) for picture in read_pictures(path) for kind, _, answer in picture.questions
    )  # fmt: skip


def write(
    folder: Path, rows: list[KindAccuracy], pictures: list[Picture], answered: list[Answered],
    config: QuestionsConfig, checkpoint: str,
) -> None:  # fmt: skip
    """Write results.json (rows and every answer), summary.md and examples.png into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {
        "checkpoint": checkpoint,
        "questions": str(config.questions),
        "blind": config.blind,
        "accuracy": to_dict(rows),
        "answers": [{**asdict(item), "correct": item.correct} for item in answered],
    }
    _replace(folder / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    _replace(folder / "summary.md", (table(rows) + "\n").encode())
    beside = folder / ".examples.png"
    draw_examples([picture.image for picture in pictures], _by_picture(pictures, answered)).save(beside)
    os.replace(beside, folder / "examples.png")


def _by_picture(pictures: list[Picture], answered: list[Answered]) -> list[list[Answered]]:
    rest = iter(answered)
    return [[next(rest) for _ in picture.questions] for picture in pictures]


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(content)
    os.replace(beside, path)
