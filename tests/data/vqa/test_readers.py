"""Orders without memory, and shares of data that are read from any position."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.data.vqa.permutation import Permutation
from vla.data.vqa.readers import MapReader, ShardReader
from vla.data.vqa.sources import Items, Split, Table, Tables


class Numbers:
    """Shards of numbers; a number below 0 can't be read."""

    def __init__(self, shards: list[list[int]]) -> None:
        self.shards = shards
        self.opened: list[tuple[int, int]] = []

    @property
    def num_shards(self) -> int:
        return len(self.shards)

    def open(self, shard: int, row: int) -> Iterator[int]:
        self.opened.append((shard, row))
        for number in self.shards[shard][row:]:
            if number < 0:
                raise OSError("damaged")
            yield number

    def label(self, shard: int, row: int) -> str:
        return f"{shard}/{row}"


def read(reader: Any, count: int) -> list[Any]:
    return [reader.read()[2] for _ in range(count)]


@given(size=st.integers(1, 300), seed=st.integers(0, 5), epoch=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_an_order_has_everything_once(size: int, seed: int, epoch: int) -> None:
    order = Permutation(size, seed, epoch)
    assert sorted(order[place] for place in range(size)) == list(range(size))
    with pytest.raises(IndexError):
        order[size]


def test_orders_differ_and_are_shuffled() -> None:
    first, second = (Permutation(1000, 7, epoch) for epoch in (0, 1))
    a, b = ([order[place] for place in range(1000)] for order in (first, second))
    assert a != b and sum(x == y for x, y in zip(a, b, strict=True)) < 10
    assert sum(abs(x - y) == 1 for x, y in zip(a, a[1:], strict=False)) < 10


@given(size=st.integers(1, 40), streams=st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_streams_together_read_every_item_once_per_epoch(size: int, streams: int) -> None:
    source = Items([f"item {number}" for number in range(size)], ["" for _ in range(size)])
    readers = [MapReader(source, stream, streams, seed=3) for stream in range(streams)]
    items = [readers[number % streams].read()[2] for number in range(3 * size)]
    for epoch in range(3):
        assert len(set(items[epoch * size : (epoch + 1) * size])) == size


def test_a_share_is_read_on_from_any_position() -> None:
    source = Items(list(range(50)), [str(number) for number in range(50)])
    whole = [MapReader(source, 1, 4, seed=3)]
    entries = [whole[0].read() for _ in range(40)]
    for stop in (0, 7, 39):
        reader = MapReader(source, 1, 4, seed=9)
        reader = MapReader(source, 1, 4, seed=3)
        reader.position = entries[stop][0]
        assert read(reader, 40 - stop) == [item for _, _, item in entries[stop:]]
    again = reader.read_again([entries[3][0], entries[20][0]])
    assert again == [entries[3][2], entries[20][2]]
    assert reader.epochs_at([25]) == 2


SHARDS = [[10, 11, 12], [20], [], [30, 31, 32, 33], [40, 41]]


@pytest.mark.parametrize("streams", [1, 2, 3, 5, 7])
def test_shards_are_read_by_all_streams_together(streams: int) -> None:
    """With fewer shards than streams each reads a part of every shard."""
    source = Numbers(SHARDS)
    readers = [ShardReader(source, stream, streams, seed=3) for stream in range(streams)]
    seen = []
    for reader in readers:
        while True:
            try:
                position, label, item = reader.read()
            except ValueError:  # a stream whose only shard is empty
                break
            if position[0] > 0:
                break
            shard = next(number for number, items in enumerate(SHARDS) if item in items)
            assert label == f"{shard}/{position[2]}" and SHARDS[shard][position[2]] == item
            seen.append(item)
    assert sorted(seen) == sorted(sum(SHARDS, []))


@pytest.mark.parametrize("streams", [2, 7])
def test_shards_are_read_on_from_any_position(streams: int) -> None:
    source = Numbers(SHARDS[:2] + SHARDS[3:])
    whole = ShardReader(source, 1, streams, seed=3)
    entries = [whole.read() for _ in range(30)]
    assert entries[0][2] != entries[29][2] or len({item for _, _, item in entries}) > 1
    for stop in (0, 1, 4, 29):
        reader = ShardReader(source, 1, streams, seed=3)
        reader.position = entries[stop][0]
        assert read(reader, 30 - stop) == [item for _, _, item in entries[stop:]]
        before = list(reader.position)
        chosen = [entries[number] for number in (0, 3, 4, 17)]
        assert reader.read_again([position for position, _, _ in chosen]) == [item for _, _, item in chosen]
        assert reader.position == before and reader.read_again([]) == []


def test_reading_again_opens_no_shard_twice_in_a_row() -> None:
    source = Numbers([list(range(100))])
    reader = ShardReader(source, 0, 1, seed=0)
    positions = [reader.read()[0] for _ in range(50)]
    source.opened.clear()
    assert reader.read_again(positions[10:40:3]) == list(range(10, 40, 3))
    assert source.opened == [(0, 10)]


def test_the_rest_of_a_damaged_shard_is_passed_over() -> None:
    reader = ShardReader(Numbers([[1, -1, 2], [3]]), 0, 1, seed=0)
    items, errors = [], []
    for _ in range(8):
        try:
            items.append(reader.read()[2])
        except OSError as error:
            errors.append(str(error))
    assert set(items) == {1, 3} and len(errors) >= 2
    assert set(errors) == {"0/1 and what comes behind it can't be read: damaged"}


def test_empty_shards_are_an_error() -> None:
    with pytest.raises(ValueError, match="all empty"):
        ShardReader(Numbers([[], []]), 0, 1, seed=0).read()


def test_parts_of_a_source() -> None:
    source = Items(list(range(20)), [str(number) for number in range(20)])
    held_out, rest = Split(source, 0, 5), Split(source, 5, 20)
    parts = [[part.item(index, 0) for index in range(len(part))] for part in (held_out, rest)]
    assert sorted(parts[0] + parts[1]) == list(range(20)) and parts[0] != list(range(5))
    assert held_out.label(0) == str(parts[0][0])


class Rows:
    """As much of a `datasets.Dataset` as is needed."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def with_format(self, name: str) -> "Rows":
        assert name == "arrow"
        return self

    def __getitem__(self, index: int) -> Any:
        class OneRow:
            def to_pylist(self, item: Any = self.items[index]) -> list[Any]:
                return [item]

        return OneRow()


def test_weights_of_tables() -> None:
    tables = Tables([Table("a", Rows(list("abcd")), 0.5), Table("b", Rows(list("xy")), 2.0)])
    assert len(tables) == 6
    epochs = [[tables.item(index, epoch) for index in range(6)] for epoch in range(2)]
    assert epochs == [["a", "b", "x", "y", "x", "y"], ["c", "d", "x", "y", "x", "y"]]
    assert tables.label(3) == "b[1]" and list(islice((tables.label(n) for n in range(2)), 2)) == ["a[0]", "a[1]"]
