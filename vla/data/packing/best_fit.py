"""The default packer: every pack takes the sample that has waited longest, then is filled as nearly full as can be.

The lengths at hand are bits of one big integer, so that "the longest sample that fits" and "two samples that fill the
rest exactly" are a few operations on it, whatever the number of samples.
"""

from collections import deque
from typing import Any

from vla.data.packing.packer import Size, check_size


class BestFitPacker:
    """
    Makes packs with hardly a gap out of a small buffer, and lets no sample wait for long.

    A pack starts with the sample that came first. While no single sample and no two samples fill the rest of it
    exactly, the longest sample that fits is added. Since each pack takes the sample that has waited longest, a sample
    waits for at most as many packs as samples came before it that are still held: fewer than `buffer_size`, however
    long it is and however many images it has. With `last`, when waiting has an end anyway, packs start with the longest
    sample, which leaves fewer odd ends.

    Args:
        seq_length: tokens of a pack.
        max_images: pictures of a pack at most.
        buffer_size: samples held, at least 1.
    """

    def __init__(self, seq_length: int, max_images: int, buffer_size: int = 256) -> None:
        if min(seq_length, buffer_size) < 1 or max_images < 0:
            raise ValueError(f"no packs of {seq_length} tokens, {max_images} images, from {buffer_size} samples")
        self.seq_length, self.max_images, self.buffer_size = seq_length, max_images, buffer_size
        self._clear()

    def _clear(self) -> None:
        self._held: dict[int, Size] = {}
        self._order: deque[int] = deque()  # keys as they came; taken ones are passed over
        self._by_length: list[deque[int] | None] = [None] * (self.seq_length + 1)  # keys as they came
        self._counts: dict[int, list[int]] = {}  # by number of images: samples of every length
        self._masks: dict[int, int] = {}  # by number of images: bit n is set if a sample of length n is there
        self._any = 0  # all of them together
        self._mirrored = 0  # bit (seq_length - n) is set if a sample of length n is there
        self._most_images = 0

    @property
    def is_full(self) -> bool:
        """See `Packer`."""
        return len(self._held) >= self.buffer_size

    def __len__(self) -> int:
        return len(self._held)

    def add(self, size: Size) -> None:
        """See `Packer`."""
        check_size(size, self.seq_length, self.max_images)
        key, length, images = size
        if key in self._held:
            raise ValueError(f"there is a sample {key} already")
        self._held[key] = size
        self._order.append(key)
        waiting = self._by_length[length]
        if waiting is None:
            waiting = self._by_length[length] = deque()
        if not waiting:
            self._any |= 1 << length
            self._mirrored |= 1 << (self.seq_length - length)
        waiting.append(key)
        if images not in self._counts:
            self._counts[images], self._masks[images] = [0] * (self.seq_length + 1), 0
            self._most_images = max(self._counts)
        counts = self._counts[images]
        if not counts[length]:
            self._masks[images] |= 1 << length
        counts[length] += 1

    def take(self, last: bool = False) -> list[int]:
        """See `Packer`."""
        key = self._by_length[self._any.bit_length() - 1][0] if last else self._oldest()  # type: ignore[index]
        pack, room, images = [], self.seq_length, self.max_images
        while key is not None:
            size = self._remove(key)
            pack.append(key)
            room, images = room - size.length, images - size.images
            key = self._next(room, images) if room else None
        return pack

    def _oldest(self) -> int:
        while self._order[0] not in self._held:
            self._order.popleft()
        return self._order[0]

    def _next(self, room: int, images: int) -> int | None:
        """The sample to add where there is room for so many tokens and images; None: none fits."""
        if images < self._most_images:
            return self._next_with_few_images(room, images)
        fitting = self._any & ((1 << (room + 1)) - 1)
        if not fitting:
            return None
        length = fitting.bit_length() - 1
        if length != room:
            pairs = fitting & (self._mirrored >> (self.seq_length - room))  # n and room - n are there
            if pairs:
                longer = pairs.bit_length() - 1
                if 2 * longer != room or len(self._by_length[longer]) > 1:  # type: ignore[arg-type]
                    length = longer
        return self._by_length[length][0]  # type: ignore[index]

    def _next_with_few_images(self, room: int, images: int) -> int | None:
        """The longest sample that fits where not every sample's images do."""
        fitting = 0
        for number, mask in self._masks.items():
            if number <= images:
                fitting |= mask
        fitting &= (1 << (room + 1)) - 1
        if not fitting:
            return None
        waiting = self._by_length[fitting.bit_length() - 1]
        return next(key for key in waiting if self._held[key].images <= images)  # type: ignore[union-attr]

    def _remove(self, key: int) -> Size:
        size = self._held.pop(key)
        _, length, images = size
        waiting: Any = self._by_length[length]
        if waiting[0] == key:
            waiting.popleft()
        else:
            waiting.remove(key)
        if not waiting:
            self._any ^= 1 << length
            self._mirrored ^= 1 << (self.seq_length - length)
        counts = self._counts[images]
        counts[length] -= 1
        if not counts[length]:
            self._masks[images] ^= 1 << length
        return size

    def state_dict(self) -> dict[str, Any]:
        """See `Packer`: the keys of the samples held, as they came."""
        return {"held": list(self._held)}

    def load_state_dict(self, state: dict[str, Any], sizes: dict[int, Size]) -> None:
        """See `Packer`."""
        self._clear()
        for key in state["held"]:
            self.add(sizes[key])
