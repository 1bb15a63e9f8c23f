"""Streams of packs: exact resumption, the same order for any number of workers and processes, bad samples."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_readers import Numbers
from vqa_streams import SEQ_LENGTH, make_items, open_stream, packed, packed_source

from vla.batches import PackedBatch
from vla.conf.vqa_datasets import PackingConfig, VQAConfig
from vla.data.errors import BadExample
from vla.data.vqa.stream import Deal
from vla.errors import UserError


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    return make_items(60, tmp_path / "pictures")


def take(stream: Any, count: int) -> list[PackedBatch]:
    """The next batches, over the ends of epochs."""
    batches: list[PackedBatch] = []
    while len(batches) < count:
        stream.set_position(0, 0)
        batches += islice(iter(stream), count - len(batches))
    return batches


def same(first: list[PackedBatch], second: list[PackedBatch]) -> bool:
    def values(batch: PackedBatch) -> list[Any]:
        found: list[Any] = [batch.segments]
        batch.map_tensors(lambda tensor: found.append(tensor.tolist()) or tensor)
        return found

    return [values(batch) for batch in first] == [values(batch) for batch in second]


@pytest.mark.parametrize("algorithm", ["best-fit", "published", "none"])
def test_resumes_exactly_from_any_step(items: list[Any], algorithm: str) -> None:
    data = packed(items, algorithm=algorithm, num_sequences=2)
    whole = open_stream(data, batch_size=2)
    expected = take(whole, 24)
    for steps in (1, 2, 9):
        first = open_stream(data, batch_size=2)
        take(first, 2 * steps)
        state = json.loads(json.dumps({**first.state_dict(), "epoch": 0, "step": steps}))
        second = open_stream(data, batch_size=2)
        second.load_state_dict(state)
        assert same(take(second, 24 - 2 * steps), expected[2 * steps :])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(items: list[Any], num_workers: int) -> None:
    data = packed(items)
    expected = take(open_stream(data), 12)
    stream = open_stream(data, num_workers=num_workers, prefetch_factor=2)
    try:
        assert same(take(stream, 8), expected[:8])
        state = json.loads(json.dumps(stream.state_dict()))  # of the loop; workers have read further
    finally:
        stream.close()
    again = open_stream(data)
    again.load_state_dict(state)
    assert same(take(again, 4), expected[8:])


def test_processes_take_parts_of_the_same_steps(items: list[Any]) -> None:
    """Four micro-batches per step in one process, two in each of two: the same steps, also if one goes on as two."""
    data = packed(items)
    stream = open_stream(data)
    begun = take(stream, 12)
    state = json.loads(json.dumps(stream.state_dict()))
    expected = take(stream, 12)
    assert stream.deal.streams == 2

    def as_two(start: dict[str, Any] | None, steps: int) -> list[PackedBatch]:
        parts = []
        for rank in range(2):
            part = open_stream(data, rank=rank, world_size=2)
            if start is not None:
                part.load_state_dict(start)
            parts.append(take(part, 2 * steps))
        return [batch for step in range(steps) for part in parts for batch in part[2 * step : 2 * step + 2]]

    assert same(as_two(state, 3), expected)
    four = open_stream(packed(items, streams=4))
    assert same(as_two(None, 3), take(four, 12)) and not same(as_two(None, 3), begun)


@given(micro_batches=st.integers(1, 12), per_process=st.integers(1, 9), world_size=st.sampled_from([1, 2, 3, 4]))
@settings(deadline=None, max_examples=80)
def test_every_stream_belongs_to_one_process(micro_batches: int, per_process: int, world_size: int) -> None:
    micro_batches *= world_size
    deals = [Deal.at_least(per_process, micro_batches, rank, world_size) for rank in range(world_size)]
    owned = [deal.own() for deal in deals]
    assert sorted(sum(owned, [])) == list(range(deals[0].streams))
    assert all(len(own) >= per_process for own in owned)
    for deal, own in zip(deals, owned, strict=True):
        turns = Counter(deal.stream_of(number) for number in range(deal.streams * micro_batches))
        assert set(turns) == set(own) and len(set(turns.values())) == 1


def test_packs_are_full_and_an_epoch_has_every_sample_about_once(items: list[Any]) -> None:
    data = packed(items)
    stream = open_stream(data)
    batches = take(stream, len(data))
    lengths = [int(batch.attention_mask.sum()) for batch in batches]
    assert sum(lengths) / len(lengths) / SEQ_LENGTH > 0.9 and max(lengths) <= SEQ_LENGTH
    questions = Counter(
        data.maker.processor.tokenizer.decode(batch.input_ids[0, first:end]).split("?")[0].rpartition(" ")[2]
        for batch in batches
        for _, first, end in batch.segments
    )
    assert len(questions) > 40 and max(questions.values()) <= 2


def test_bad_samples_are_left_out_told_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    items = make_items(40, tmp_path, bad=(1, 6, 11))
    items[4]["texts"] = []
    items[5]["texts"][0]["assistant"] = "cat " * 200
    items[9]["images"] = [items[9]["images"][0]] * 3
    items[13]["images"][0]["bytes"] = b"no picture"
    stream = open_stream(packed(items, streams=1, max_images_per_sample=2), batch_size=4)
    take(stream, 3 * stream.steps_per_epoch)
    assert {kind: count > 0 for kind, count in stream.left_out.items()} == {
        "bad": True, "no_turns": True, "too_long": True, "too_many_images": True
    }  # fmt: skip
    stream.close()
    text = capsys.readouterr().err
    assert "samples that this process's streams have left out: " in text and " no_turns, " in text
    assert "left out (bad" in text and "left out (too_long" in text and "has 3 images, the most is 2" in text
    assert text.count("left out (bad") <= 6
    state = json.loads(json.dumps(stream.state_dict()))
    again = [open_stream(packed(items, streams=1, max_images_per_sample=2), batch_size=4) for _ in range(2)]
    for other in again:
        other.load_state_dict(state)
    take(again[0], 2)
    state = json.loads(json.dumps(again[0].state_dict()))
    last = open_stream(packed(items, streams=1, max_images_per_sample=2), batch_size=4)
    last.load_state_dict(state)
    assert same(take(last, 5), take(again[1], 7)[2:]) and last.left_out == again[1].left_out


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bad_samples_can_be_an_error(tmp_path: Path, num_workers: int) -> None:
    items = make_items(20, tmp_path)
    items[5]["images"] = ["absent.png"]
    stream = open_stream(packed(items, on_bad_sample="error"), num_workers=num_workers)
    with pytest.raises(BadExample, match=r"item 5: .*absent\.png"):
        take(stream, 60)


def test_no_sample_at_all_is_an_error() -> None:
    data = packed([{"images": [], "texts": []}] * 9, streams=1)
    with pytest.raises(BadExample, match="none of 9 samples"):
        len(data)
    source = Numbers([[1, 2], [3, 4]])
    config = VQAConfig(packing=PackingConfig(buffer_size=8, streams=1))
    endless = open_stream(packed_source(source, config), max_steps=5)
    with pytest.raises(BadExample, match="no sample is left to train on; left out so far: {'bad'"):
        take(endless, 1)


def test_an_error_of_a_worker_names_the_stream(items: list[Any]) -> None:
    data = packed(items)

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of paper")

    stream = open_stream(data)
    stream._open_lane = fail
    with pytest.raises(UserError, match="stream 0 of packs: RuntimeError: out of paper"):
        take(stream, 1)


def test_other_data_or_settings_are_refused(items: list[Any]) -> None:
    stream = open_stream(packed(items))
    take(stream, 8)
    state = json.loads(json.dumps(stream.state_dict()))
    for other, message in (
        (open_stream(packed(items), seed=8), "with seed 7, this run has 8"),
        (open_stream(packed(items[:50])), "with samples 60, this run has 50"),
        (open_stream(packed(items, max_images=3)), "with packing"),
    ):
        with pytest.raises(UserError, match=message):
            other.load_state_dict(state)
    wide = open_stream(packed(items, streams=1), world_size=4, global_batch_size=12)
    with pytest.raises(UserError, match="can't be dealt out to 4 processes"):
        wide.load_state_dict({**state, **wide._identity, "streams": 6})
    changed = [items[0], *(dict(item, texts=[]) for item in items[1:])]
    stream = open_stream(packed(changed))
    stream.load_state_dict({**state, **stream._identity})
    with pytest.raises(BadExample, match="resume: the data has changed"):
        take(stream, 1)


def test_how_long_an_epoch_of_a_stream_is_has_to_be_told() -> None:
    data = packed_source(Numbers([[1]]), VQAConfig())
    with pytest.raises(UserError, match="dataset.streaming: .* max_steps"):
        open_stream(data)
    assert open_stream(data, max_steps=9).steps_per_epoch == 9


def test_batches_go_through_shared_memory_unchanged(items: list[Any]) -> None:
    batch = take(open_stream(packed(items)), 1)[0]
    assert batch.cursors == {} and isinstance(batch.segments, list)
    assert all(isinstance(value, torch.Tensor) for value in batch.pixel_values.values())
