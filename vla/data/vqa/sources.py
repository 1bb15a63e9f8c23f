"""Datasets with random access, as items `{"images", "texts", ...}`."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from vla.data.language.selection import Part
from vla.data.vqa.permutation import Permutation
from vla.data.vqa.readers import MapSource
from vla.prompting import IMAGE_TOKEN


@dataclass(frozen=True)
class Table:
    """A dataset of Hugging Face, and how often it is read per epoch."""

    name: str
    rows: Any  # a `datasets.Dataset`
    weight: float = 1.0
    held_out: tuple[int, ...] = ()  # numbers of rows that are passed over, sorted

    @property
    def num_rows(self) -> int:
        """Rows without those that are held out."""
        return len(self.rows) - len(self.held_out)

    @property
    def count(self) -> int:
        """Items of an epoch: at least one, where there are rows."""
        return max(1, round(self.num_rows * self.weight)) if self.num_rows else 0

    @cached_property
    def _before(self) -> list[int]:
        """Of each row that is held out, how many rows that are not come before it."""
        return [row - number for number, row in enumerate(self.held_out)]

    def row(self, number: int) -> int:
        """The row that is number `number` of those that are not held out, over and over."""
        place = number % self.num_rows
        return place + bisect_right(self._before, place)


class Tables:
    """
    Several tables one behind the other.

    A table with a weight that is no whole number gives another part of its rows each epoch.

    Args:
        tables: none of them empty.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = list(tables)
        self._ends = list(accumulate(table.count for table in self.tables))
        self._rows = [table.rows.with_format("arrow") for table in self.tables]  # images stay as they are stored

    def __len__(self) -> int:
        return self._ends[-1]

    def item(self, index: int, epoch: int) -> dict[str, Any]:
        """See `MapSource`."""
        number, place = self._locate(index)
        table = self.tables[number]
        row = table.row(place + epoch * table.count)
        found: dict[str, Any] = self._rows[number][row].to_pylist()[0]
        return found

    def label(self, index: int) -> str:
        """See `MapSource`: of the first epoch."""
        number, place = self._locate(index)
        table = self.tables[number]
        return f"{table.name}[{table.row(place)}]"

    def hold_out(self, count: int) -> tuple["Tables", "Split"]:
        """The tables without `count` rows of a random order, in none of their repetitions, and these rows, once each.

        Args:
            count: fewer than there are rows.
        """
        once = Tables([replace(table, weight=1.0) for table in self.tables])
        split = Split(once, 0, count)
        rows: list[list[int]] = [[] for _ in self.tables]
        for place in split.places():
            number, row = once._locate(place)
            rows[number].append(row)
        rest = [replace(table, held_out=tuple(sorted(taken))) for table, taken in zip(self.tables, rows, strict=True)]
        return Tables([table for table in rest if table.count]), split

    @property
    def num_rows(self) -> int:
        """Rows of all tables, each counted once."""
        return sum(table.num_rows for table in self.tables)

    def _locate(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._ends, index)
        return number, index - (self._ends[number - 1] if number else 0)


class LlavaRows:
    """
    Rows of an annotation file in LLaVA's format, which are not read before they are asked for.

    Args:
        part: which rows, and where their images are.
    """

    def __init__(self, part: Part) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def item(self, index: int, epoch: int) -> dict[str, Any]:
        """See `MapSource`."""
        number = int(self.part.rows[index])
        said = [_clean(turn["value"]) for turn in self.part.annotations.read(number)["conversations"]]
        name = self.part.annotations.image(number)
        return {
            "images": [str(self.part.images / name)] if name else [],
            "texts": [{"user": user, "assistant": told} for user, told in zip(said[::2], said[1::2], strict=False)],
        }

    def label(self, index: int) -> str:
        """See `MapSource`."""
        return self.part.annotations.label(int(self.part.rows[index]))


def _clean(text: str) -> str:
    return text.replace(IMAGE_TOKEN, "").strip()


class Split:
    """
    A part of a source, by its places in a fixed order of its own, so that neither part is special.

    Args:
        source: what is split.
        first, end: the places that belong to this part.
    """

    def __init__(self, source: MapSource, first: int, end: int) -> None:
        self.source, self._first, self._end = source, first, end
        self._order = Permutation(len(source), seed=0, epoch=0)

    def __len__(self) -> int:
        return self._end - self._first

    def places(self) -> list[int]:
        """Where its items stand in the source."""
        return [self._order[place] for place in range(self._first, self._end)]

    def item(self, index: int, epoch: int) -> Any:
        """See `MapSource`."""
        return self.source.item(self._order[self._first + index], epoch)

    def label(self, index: int) -> str:
        """See `MapSource`."""
        return self.source.label(self._order[self._first + index])


class Items:
    """A few items that are held in memory."""

    def __init__(self, items: Sequence[Any], labels: Sequence[str]) -> None:
        self._items, self._labels = list(items), list(labels)

    def __len__(self) -> int:
        return len(self._items)

    def item(self, index: int, epoch: int) -> Any:
        """See `MapSource`."""
        return self._items[index]

    def label(self, index: int) -> str:
        """See `MapSource`."""
        return self._labels[index]
