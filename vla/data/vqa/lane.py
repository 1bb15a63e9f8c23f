"""A stream of packs: what one reader reads, packed, from any point on, with the same packs each time."""

from collections import Counter
from typing import Any

from vla.data.errors import BadExample, one_line
from vla.data.packing.packer import Packer, Size
from vla.data.vqa.collator import Sample
from vla.data.vqa.readers import Position, Reader
from vla.data.vqa.samples import BAD, LeftOut, SampleMaker
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

PATIENCE = 200  # items that must have been read without a sample before the data is called useless
MOST_WARNINGS = 5  # of one kind and stream; then one for each power of ten
Held = dict[int, tuple[Position, Sample, Size]]


class Lane:
    """
    Packs of one stream, without end.

    Args:
        reader: gives the items.
        maker: makes samples of them.
        packer: makes packs of samples, empty.
        strict: an item that can't be read is an error; otherwise it is left out, told and counted.
    """

    def __init__(self, reader: Reader, maker: SampleMaker, packer: Packer, strict: bool = False) -> None:
        self._reader, self._maker, self._packer, self._strict = reader, maker, packer, strict
        self._held: Held = {}
        self._count = 0  # items that were read; the next sample's key
        self.left_out: Counter[str] = Counter()
        self._nothing_since: tuple[int, Position] | None = None  # items read, and where, at the last sample

    def take(self) -> list[Sample]:
        """
        The next pack, its pictures read; never empty.

        Raises:
            BadExample: an item can't be read (strict), or there is no sample at all.
        """
        while True:
            while not self._packer.is_full:
                self._add_one()
            pack = self._read_pixels([self._held.pop(key) for key in self._packer.take()])
            if pack:
                return pack

    def _add_one(self) -> None:
        key, self._count = self._count, self._count + 1
        before = self._reader.position
        label = "an item"
        try:
            position, label, item = self._reader.read()
            sample, size = self._maker.outline(key, item)
        except LeftOut as reason:
            self._leave_out(reason.kind, label, reason)
            self._check_progress(key, before)
        except Exception as error:  # whatever a library raises about a damaged file
            self._leave_out(BAD, f"{label} after {before}", error)
            self._check_progress(key, before)
        else:
            self._packer.add(size)
            self._held[key] = position, sample, size
            self._nothing_since = None

    def _read_pixels(self, entries: list[tuple[Position, Sample, Size]]) -> list[Sample]:
        """The samples of a pack whose pictures can be read; one that can't leaves a gap."""
        pack = []
        for position, sample, _ in entries:
            try:
                pack.append(self._maker.with_pixels(sample))
            except LeftOut as reason:
                self._leave_out(reason.kind, f"the sample at {position}", reason)
        return pack

    def _leave_out(self, kind: str, label: str, reason: Exception) -> None:
        message = f"{label}: {one_line(reason)}"
        if kind == BAD and self._strict:
            raise BadExample(message) from reason
        self.left_out[kind] += 1
        number = self.left_out[kind]
        if number <= MOST_WARNINGS or str(number).strip("0") == "1":
            overwatch.warning(f"left out ({kind}, number {number} of this stream): {message}")

    def _check_progress(self, key: int, before: Position) -> None:
        """Raise BadExample once the whole share has gone by without a sample."""
        self._nothing_since = self._nothing_since or (key, before)
        count, position = self._nothing_since
        read = self._reader.epochs_at(self._reader.position) - self._reader.epochs_at(position)
        if read > 1 and key - count > PATIENCE:
            raise BadExample(f"dataset: no sample is left to train on; left out so far: {dict(self.left_out)}")

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as JSON values: positions of the samples that it holds back, no tokens or pixels."""
        return {
            "position": self._reader.position,
            "count": self._count,
            "left_out": dict(self.left_out),
            "held": [[key, position] for key, (position, _, _) in self._held.items()],
            "packer": self._packer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on where another stream of the same data stood; what it held back is read again.

        Raises:
            BadExample: the data has changed.
        """
        self._reader.position = list(state["position"])
        self._count, self.left_out = state["count"], Counter(state["left_out"])
        held = state["held"]
        items = self._reader.read_again([position for _, position in held])
        self._held = {}
        for (key, position), item in zip(held, items, strict=True):
            try:
                sample, size = self._maker.outline(key, item)
            except LeftOut as reason:
                raise BadExample(f"resume: the data has changed: the item at {position} {reason}") from reason
            self._held[key] = list(position), sample, size
        self._packer.load_state_dict(state["packer"], {key: size for key, (_, _, size) in self._held.items()})
