"""What a packer is, and how it is driven."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Size(NamedTuple):
    """What packing needs to know of a sample."""

    key: int  # tells samples of a packer apart
    length: int  # tokens
    images: int  # pictures, however many tiles each of them is cut into


@dataclass(frozen=True)
class Admission:
    """Which samples are packed, and what they count for."""

    max_length: int  # tokens; longer samples are left out
    max_images: int  # pictures; samples with more are left out
    separators: int = 0  # tokens that stand behind every sample in a pack

    def size(self, key: int, length: int, images: int) -> Size | None:
        """The size of a sample in a pack; None: it is left out."""
        if not 0 < length <= self.max_length or images > self.max_images:
            return None
        return Size(key, length + self.separators, images)


class Packer(Protocol):
    """Holds a bounded number of samples back, and makes packs of them: lists of keys whose samples fit together."""

    @property
    def is_full(self) -> bool:
        """Whether a pack should be taken before another sample is added."""
        ...

    def __len__(self) -> int:
        """Samples that it holds."""
        ...

    def add(self, size: Size) -> None:
        """Take a sample in.

        Raises:
            ValueError: it fits into no pack.
        """
        ...

    def take(self, last: bool = False) -> list[int]:
        """A pack of samples that it holds, in the order in which they stand in it.

        Args:
            last: no more samples will be added.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """As JSON values, what `load_state_dict` needs besides the sizes of the samples that it holds."""
        ...

    def load_state_dict(self, state: dict[str, Any], sizes: dict[int, Size]) -> None:
        """Go on where another packer of the same settings stood; `sizes` are those of the samples it held, by key."""
        ...


def check_size(size: Size, seq_length: int, max_images: int) -> None:
    """Raise ValueError unless a sample fits into an empty pack."""
    if not 0 < size.length <= seq_length or size.images > max_images:
        raise ValueError(
            f"a sample of {size.length} tokens and {size.images} images fits into no pack of {seq_length} tokens and "
            f"{max_images} images"
        )


def pack_all(packer: Packer, sizes: Iterable[Size]) -> Iterator[list[int]]:
    """The packs of a finite stream of samples, each sample in exactly one of them."""
    for size in sizes:
        while packer.is_full:
            yield packer.take()
        packer.add(size)
    while len(packer):
        yield packer.take(last=True)
