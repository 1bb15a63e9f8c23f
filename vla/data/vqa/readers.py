"""One stream's share of a dataset, read for ever: epoch after epoch, from any position."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from vla.data.errors import one_line
from vla.data.vqa.permutation import Permutation

Position = list[Any]  # JSON values
Entry = tuple[Position, str, Any]  # where an item is, its label for messages, and the item


class Reader(Protocol):
    """Reads items one after another; a position says which comes next."""

    position: Position  # of the next item

    def read(self) -> Entry:
        """The next item; its own position comes with it.

        Raises:
            Exception: it can't be read; the position is behind it, or behind all that can't be read with it.
        """
        ...

    def read_again(self, positions: Sequence[Position]) -> list[Any]:
        """Items that were read before, by their positions in the order in which they came; `position` stays."""
        ...

    def epochs_at(self, position: Position) -> float:
        """How often the share had been read when `position` was next."""
        ...


class MapSource(Protocol):
    """Random access to items; safe to pickle and to use from several processes."""

    def __len__(self) -> int:
        """Items of an epoch."""
        ...

    def item(self, index: int, epoch: int) -> Any:
        """An item `{"images", "texts", ...}`."""
        ...

    def label(self, index: int) -> str:
        """Where it comes from, for messages."""
        ...


class MapReader:
    """
    A stream's share of a source with random access: the source's epochs, each in an order of its own, lie one behind
    the other and are dealt out to the streams one by one. All streams together read every item once per epoch.

    Args:
        source: where items are.
        stream, streams: which share, of how many.
        seed: of the orders.
    """

    def __init__(self, source: MapSource, stream: int, streams: int, seed: int) -> None:
        self.source, self._stream, self._streams, self._seed = source, stream, streams, seed
        self.position: Position = [0]
        self._order: tuple[int, Permutation] | None = None

    def read(self) -> Entry:
        """See `Reader`."""
        position, self.position = self.position, [self.position[0] + 1]
        epoch, index = self._locate(position)
        return position, self.source.label(index), self.source.item(index, epoch)

    def read_again(self, positions: Sequence[Position]) -> list[Any]:
        """See `Reader`."""
        places = [self._locate(position) for position in positions]
        return [self.source.item(index, epoch) for epoch, index in places]

    def epochs_at(self, position: Position) -> float:
        """See `Reader`."""
        return position[0] * self._streams / len(self.source)

    def _locate(self, position: Position) -> tuple[int, int]:
        epoch, place = divmod(position[0] * self._streams + self._stream, len(self.source))
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, Permutation(len(self.source), self._seed, epoch)
        return epoch, self._order[1][place]


class ShardedSource(Protocol):
    """Shards of items that can only be read from the beginning of a shard."""

    @property
    def num_shards(self) -> int:
        """How many there are."""
        ...

    def open(self, shard: int, row: int) -> Iterator[Any]:
        """The items of a shard from its item number `row` on."""
        ...

    def label(self, shard: int, row: int) -> str:
        """Where an item comes from, for messages."""
        ...


class ShardReader:
    """
    A stream's share of a source that can only be read from front to back.

    With as many shards as streams or more, a stream reads shards of its own, in another order each epoch; with fewer,
    all streams read all shards and each keeps one of `streams` items. A position is [epoch, number of the shard in
    the epoch, row in the shard].

    Args:
        source: where shards are.
        stream, streams: which share, of how many.
        seed: of the orders.
    """

    def __init__(self, source: ShardedSource, stream: int, streams: int, seed: int) -> None:
        self.source, self._seed = source, seed
        owns_shards = source.num_shards >= streams
        self._shards = list(range(stream if owns_shards else 0, source.num_shards, streams if owns_shards else 1))
        self._stride = 1 if owns_shards else streams
        self.position: Position = [0, 0, 0 if owns_shards else stream]
        self._first_row = self.position[2]
        self._items: Iterator[Any] | None = None
        self._row = 0  # of the shard that is open, the next one that it gives

    def read(self) -> Entry:
        """See `Reader`."""
        nothing_since = None
        while True:
            epoch, number, row = self.position
            if nothing_since == (epoch - 1, number):
                raise ValueError("the stream's shards are all empty")
            nothing_since = nothing_since or (epoch, number)
            shard = self._order(epoch)[number]
            last = number + 1 == len(self._shards)
            self.position = [epoch + last, 0 if last else number + 1, self._first_row]  # unless there is an item
            try:
                found, item = self._item(shard, row)
            except Exception as error:  # of whatever kind a library raises: more than one item is lost
                label = self.source.label(shard, row)
                raise OSError(f"{label} and what comes behind it can't be read: {one_line(error)}") from error
            if found:
                self.position = [epoch, number, row + self._stride]
                return [epoch, number, row], self.source.label(shard, row), item
            self._items = None

    def read_again(self, positions: Sequence[Position]) -> list[Any]:
        """See `Reader`: one pass from the first of them to the last."""
        if not positions:
            return []
        other = ShardReader.__new__(ShardReader)
        other.__dict__.update(self.__dict__, position=list(positions[0]), _items=None)
        items: list[Any] = []
        while len(items) < len(positions):
            wanted = list(positions[len(items)])
            if wanted[:2] != other.position[:2]:
                other._items = None
            other.position = wanted
            items.append(other.read()[2])
        return items

    def epochs_at(self, position: Position) -> float:
        """See `Reader`."""
        return position[0] + position[1] / len(self._shards)

    def _order(self, epoch: int) -> list[int]:
        order = Permutation(len(self._shards), self._seed, epoch)
        return [self._shards[order[place]] for place in range(len(self._shards))]

    def _item(self, shard: int, row: int) -> tuple[bool, Any]:
        """Item number `row` of the shard that is next, if there is one."""
        if self._items is None:
            self._items, self._row = self.source.open(shard, row), row
        items, self._items = self._items, None  # left open only if nothing goes wrong
        for item in items:
            self._row += 1
            if self._row > row:
                self._items = items
                return True, item
        return False, None
