"""Packs into batches, and rows padded on the left, against recorded ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vla.batches import IGNORE_INDEX
from vla.data.packing.packer import Admission
from vla.data.vqa.collator import PackCollator, Sample, pad_left
from vla.data.vqa.images import images_per_document
from vla.data.vqa.processor import VQAProcessor


def test_rows_padded_on_the_left_are_the_recorded_ones(golden: Callable[[str], Any]) -> None:
    recorded = golden("collator")
    for case in recorded["cases"]:
        length = recorded["max_length"]
        rows = [row for row in case["in"] if row is not None]
        kept = [row for row in rows if Admission(length, 0).size(0, len(row["input_ids"]), 0) is not None]
        if not kept:
            assert case["out"]["input_ids"] == []
            continue
        ids, mask = pad_left([np.array(row["input_ids"]) for row in kept], recorded["pad_token_id"], length)
        labels, _ = pad_left([np.array(row["labels"]) for row in kept], IGNORE_INDEX, length)
        assert ids.tolist() == case["out"]["input_ids"] and labels.tolist() == case["out"]["labels"]
        assert mask.int().tolist() == case["out"]["attention_mask"]
    assert pad_left([np.array([1]), np.array([2, 3])], 0)[0].tolist() == [[0, 1], [2, 3]]


def test_a_batch_of_packs(processor: VQAProcessor, sample_of: Callable[..., Sample]) -> None:
    first, second, third = sample_of(3, "a cat", (20, 30)), sample_of(5, "yes"), sample_of(7, "no", (9, 9), (40, 16))
    batch = PackCollator(processor)([{"samples": [first, second]}, {"samples": [third]}])
    assert batch.sample_ids.tolist() == [3, 5, 7] and batch.is_multimodal.tolist() == [True, False, True]
    a, b, c = map(len, (first, second, third))
    assert batch.segments == [(0, 0, a), (0, a, a + b), (1, 0, c)]
    length = max(a + b, c)
    assert batch.input_ids.shape == (2, length)
    assert batch.input_ids[0, : a + b].tolist() == [*first.input_ids, *second.input_ids]
    assert batch.labels[0, : a + b].tolist() == [*first.labels, *second.labels]
    assert batch.position_ids[0, : a + b].tolist() == [*range(a), *range(b)]
    assert batch.document_ids[0, : a + b].tolist() == [0] * a + [1] * b
    row, end = (1, c) if c < length else (0, a + b)
    assert (batch.document_ids[row, end:] == -1).all() and (batch.labels[row, end:] == IGNORE_INDEX).all()
    assert batch.attention_mask.sum() == a + b + c
    tiles = processor.pixels(batch.pixel_values)["siglip"]
    assert len(tiles) * 2 == batch.image_mask.sum()
    alone = processor.pixels(PackCollator(processor)([{"samples": [third]}]).pixel_values)["siglip"]
    assert torch.equal(tiles[-len(alone) :], alone)
    counts = images_per_document(
        batch.pixel_values, batch.document_ids, batch.image_mask, len(batch), whole=processor.whole
    )
    assert counts.tolist() == [1, 0, 2]


def test_samples_see_each_other_as_published(processor: VQAProcessor, sample_of: Callable[..., Sample]) -> None:
    first, second = sample_of(3, "a cat", (20, 30)), sample_of(5, "yes")
    a, b = len(first), len(second)
    batch = PackCollator(processor, cross_document_attention=True)([{"samples": [first, second]}])
    assert batch.segments is None and batch.input_ids.shape == (1, a + b + 2)
    assert batch.input_ids[0].tolist() == [*first.input_ids, 2, *second.input_ids, 2]
    assert batch.attention_mask[0].tolist() == [True] * a + [False] + [True] * b + [False]
    assert batch.labels[0, [a, a + b + 1]].tolist() == [IGNORE_INDEX] * 2
    seen = batch.attention_mask[0]
    assert batch.position_ids[0, seen].tolist() == [*range(a), *range(a + 1, a + 1 + b)]


def test_nothing_is_learned_from_padding(processor: VQAProcessor, sample_of: Callable[..., Sample]) -> None:
    packs = [{"samples": [sample_of(3, "a cat")], "is_padding": padding} for padding in (False, True)]
    batch = PackCollator(processor)(packs)
    assert (batch.labels != IGNORE_INDEX).any(dim=1).tolist() == [True, False]


def test_a_batch_of_text_alone(processor: VQAProcessor, sample_of: Callable[..., Sample]) -> None:
    batch = PackCollator(processor)([{"samples": [sample_of(3, "a cat")]}])
    assert processor.pixels(batch.pixel_values)["siglip"].shape == (0, 3, 16, 16)
    moved = batch.to("cpu").map_tensors(lambda tensor: tensor.clone())
    assert moved.segments == batch.segments and list(moved.pixel_values) == ["order"]
