"""Dialogues about pictures as token ids: what announces a picture, which turns are kept, which tokens are learned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from vla.batches import IGNORE_INDEX
from vla.conf.models.nanovlm_published import GLOBAL_TOKEN, IMAGE_TOKEN, place_token
from vla.conf.vqa_datasets import RatingsConfig
from vla.data.vqa.tiling import Grid

Encode = Callable[[str], list[int]]
Turn = tuple[str, str]  # what is asked, what is answered


def image_string(grids: Sequence[Grid], tokens_per_tile: int, image_tokens: str) -> str:
    """
    What stands for pictures in a text.

    Args:
        grids: rows and columns of each picture's tiles.
        tokens_per_tile: image tokens of a tile.
        image_tokens: `VQAProcessorConfig.image_tokens`, not none.
    """
    tile = IMAGE_TOKEN * tokens_per_tile
    pieces = []
    for number, (rows, columns) in enumerate(grids):
        if len(grids) > 1:
            pieces.append(f"<image: {number}>")
        if image_tokens == "single":
            pieces.append(tile)
            continue
        if image_tokens == "global-grid":
            pieces.append(GLOBAL_TOKEN + tile)
            if rows * columns == 1:
                continue
        places = [(row, column) for row in range(1, rows + 1) for column in range(1, columns + 1)]
        pieces += [place_token(row, column) + tile for row, column in places]
    return "".join(pieces)


def is_good(item: Mapping[str, Any], turn: int, least: RatingsConfig) -> bool:
    """Whether no rating of turn number `turn` of a dataset's item is below the least one; None is no rating."""
    for field in fields(least):
        ratings = item.get(f"{field.name}_ratings") or ()
        rating = ratings[turn] if turn < len(ratings) else None
        if rating is not None and rating < getattr(least, field.name):
            return False
    return True


def kept_turns(item: Mapping[str, Any], least: RatingsConfig) -> list[Turn]:
    """The turns of `item["texts"]`, a list of `{"user", "assistant"}`, that are good enough."""
    texts = item.get("texts") or ()
    return [(text["user"], text["assistant"]) for turn, text in enumerate(texts) if is_good(item, turn, least)]


def chatml(turns: Sequence[Turn], images: str, encode: Encode) -> tuple[list[int], list[int]]:
    """
    A dialogue in ChatML.

    A turn begins and ends with a token of its own, so that texts are encoded one by one: which tokens are an answer
    follows from its text alone. (The published code looks for it in the whole dialogue's ids with the help of the
    tokenizer's chat template, whose result has changed its type: no answer is learned then.)

    Args:
        turns: what is asked and answered.
        images: stands in front of the first question.
        encode: text to ids, with special tokens where the text has them.

    Returns:
        Ids, and labels: an answer's ids up to its end, IGNORE_INDEX elsewhere.
    """
    ids: list[int] = []
    labels: list[int] = []
    for number, (question, answer) in enumerate(turns):
        asked = encode(message("user", (images if number == 0 else "") + question))
        head, whole = encode(head_of("assistant")), encode(message("assistant", answer))
        if whole[: len(head)] != head:  # the answer's first letters were drawn into the head's last token
            whole = head + encode(message("assistant", answer).removeprefix(head_of("assistant")))
        ids += asked + whole
        labels += [IGNORE_INDEX] * (len(asked) + len(head)) + whole[len(head) :]
    return ids, labels


def head_of(role: str) -> str:
    """How a message begins."""
    return f"<|im_start|>{role}\n"


def message(role: str, content: str) -> str:
    """A message of a dialogue in ChatML."""
    return f"{head_of(role)}{content}<|im_end|>\n"


def question_answer(turns: Sequence[Turn], images: str, encode: Encode, end: str) -> tuple[list[int], list[int]]:
    """A dialogue as nanoVLM v0.1 wrote it: "Question: ... Answer:", and the answer up to the token `end`."""
    ids: list[int] = []
    labels: list[int] = []
    for number, (question, answer) in enumerate(turns):
        asked = encode((images if number == 0 else "") + f"Question: {question} Answer:")
        answered = encode(answer + end)
        ids += asked + answered
        labels += [IGNORE_INDEX] * len(asked) + answered
    return ids, labels
