"""A language model of a few numbers and a processor without a tokenizer, for what depends on neither."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vla.batches import IGNORE_INDEX, LanguageBatch
from vla.conf.datasets import DatasetConfig
from vla.models.base import ModelOutput

VOCABULARY = 5


@DatasetConfig.register_subclass("toy-language")
@dataclass(frozen=True)
class ToyLanguageDataConfig(DatasetConfig):
    dataset_id: ClassVar[str] = "toy-language"
    task: ClassVar[str] = "language"


class ToyProcessor:
    """Pixels in [0, 1]."""

    def pixels(self, pixel_values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.float() / 255 for name, value in pixel_values.items()}


@dataclass
class LanguageOutput(ModelOutput):
    token_loss: Tensor | None = None
    token_correct: Tensor | None = None
    token_row: Tensor | None = None


class Bigrams:
    """Predicts a token from the one before it, from a table of logits [V, V]; images have no say."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, batch: LanguageBatch) -> LanguageOutput:
        learned = batch.labels[:, 1:] != IGNORE_INDEX
        logits, targets = self.logits[batch.input_ids[:, :-1]][learned], batch.labels[:, 1:][learned]
        rows = torch.arange(len(batch))[:, None].expand_as(learned)[learned]
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return LanguageOutput(token_loss=loss, token_correct=logits.argmax(-1) == targets, token_row=rows)


def language_batch(rows: list[tuple[list[int], int]], multimodal: list[bool] | None = None, **values: Any):
    """Rows of (ids, number of ids at the front that are not learned), padded with 0 on the right."""
    length = max(len(ids) for ids, _ in rows)
    ids, mask = torch.zeros(len(rows), length, dtype=torch.long), torch.zeros(len(rows), length, dtype=torch.bool)
    labels = torch.full_like(ids, IGNORE_INDEX)
    for row, (tokens, prompt) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
        labels[row, prompt : len(tokens)] = torch.tensor(tokens[prompt:], dtype=torch.long)
    images = {"siglip": torch.full((len(rows), 3, 2, 2), 255, dtype=torch.uint8)}
    kinds = torch.tensor(multimodal or [True] * len(rows))
    return LanguageBatch(torch.arange(len(rows)), ids, mask, labels, images, kinds, **values)
