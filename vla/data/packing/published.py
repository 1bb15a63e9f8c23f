"""nanoVLM's packer as published: buffers of a fixed number of tokens, spread evenly over more bags than they need."""

import heapq
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

from vla.data.packing.packer import Size, check_size

SPARE_BAGS = 5


def balanced_bags(
    lengths: Sequence[int], images: Sequence[int], seq_length: int, max_images: int, spare_bags: int = SPARE_BAGS
) -> list[list[int]]:
    """
    Every sample, the longest first, goes into the bag with the fewest tokens in which it fits.

    Args:
        lengths: tokens of every sample.
        images: pictures of every sample.
        seq_length: tokens of a bag.
        max_images: pictures of a bag.
        spare_bags: bags to begin with, besides as many as the tokens need.

    Returns:
        Bags of indices into `lengths`, in the order in which they were added; bags may be empty.
    """
    number = -(-sum(lengths) // seq_length) + spare_bags
    bags: list[list[int]] = [[] for _ in range(number)]
    pictures = [0] * number
    lightest = [(0, bag) for bag in range(number)]  # a heap; among equal ones the first comes first
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        passed_over = []
        while lightest and lightest[0][0] + lengths[index] <= seq_length:
            load, bag = lightest[0]
            if pictures[bag] + images[index] <= max_images:
                break
            passed_over.append(heapq.heappop(lightest))
        else:
            load, bag = 0, len(bags)
            bags.append([])
            pictures.append(0)
            heapq.heappush(lightest, (load, bag))
        bags[bag].append(index)
        pictures[bag] += images[index]
        heapq.heapreplace(lightest, (load + lengths[index], bag))  # it is the first: an empty bag is the lightest
        for entry in passed_over:
            heapq.heappush(lightest, entry)
    return bags


class PublishedPacker:
    """
    Packs buffer after buffer, as nanoVLM's `ConstantLengthDataset` does, in the same order for the same seed.

    Args:
        seq_length: tokens of a pack.
        max_images: pictures of a pack at most.
        num_sequences: a buffer is packed once it has `seq_length` x `num_sequences` tokens.
        seed: of the order of a buffer's packs; None keeps the order in which the bags were opened.
    """

    def __init__(self, seq_length: int, max_images: int, num_sequences: int, seed: int | None = 42) -> None:
        if min(seq_length, num_sequences) < 1 or max_images < 0:
            raise ValueError(f"no packs of {seq_length} tokens, {max_images} images, from {num_sequences} sequences")
        self.seq_length, self.max_images, self.num_sequences = seq_length, max_images, num_sequences
        self._random = None if seed is None else random.Random(seed)
        self._held: dict[int, Size] = {}
        self._tokens = 0
        self._packed: deque[list[int]] = deque()

    @property
    def is_full(self) -> bool:
        """See `Packer`."""
        return bool(self._packed) or self._tokens >= self.seq_length * self.num_sequences

    def __len__(self) -> int:
        return len(self._held) + sum(map(len, self._packed))

    def add(self, size: Size) -> None:
        """See `Packer`."""
        check_size(size, self.seq_length, self.max_images)
        if size.key in self._held:
            raise ValueError(f"there is a sample {size.key} already")
        self._held[size.key] = size
        self._tokens += size.length

    def take(self, last: bool = False) -> list[int]:
        """See `Packer`."""
        if not self._packed:
            sizes = list(self._held.values())
            bags = balanced_bags(
                [size.length for size in sizes], [size.images for size in sizes], self.seq_length, self.max_images
            )
            if self._random is not None:
                self._random.shuffle(bags)  # with the empty ones among them, as published
            self._packed.extend([sizes[index].key for index in bag] for bag in bags if bag)
            self._held, self._tokens = {}, 0
        return self._packed.popleft()

    def state_dict(self) -> dict[str, Any]:
        """See `Packer`: keys of the samples held, packs that are ready, and the random number generator."""
        generator = None if self._random is None else self._random.getstate()
        return {"held": list(self._held), "packed": [*self._packed], "random": generator}

    def load_state_dict(self, state: dict[str, Any], sizes: dict[int, Size]) -> None:
        """See `Packer`."""
        self._held = {key: sizes[key] for key in state["held"]}
        self._tokens = sum(size.length for size in self._held.values())
        self._packed = deque([*pack] for pack in state["packed"])
        if self._random is not None:
            version, numbers, gauss = state["random"]
            self._random.setstate((version, tuple(numbers), gauss))
