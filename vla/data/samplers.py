"""Samplers: each gives one process's stream of sample numbers for one epoch, from any step of it.

The order of an epoch is a function of seed and epoch. Optimizer step g takes `order[g * G : (g + 1) * G]` (G is the
global batch size) and process r of R takes the r-th contiguous slice of it, so that a run goes on in the same order
whatever the number of processes it resumes with.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vla.data.dealing import deal, longest_first
from vla.errors import UserError

Indices = NDArray[np.integer]
CHUNK = 2**20  # examples that are sorted and dealt at once, so that what that needs stays small
IMAGE_TOKENS = 576  # what an image adds to a multimodal example's length when the longest batch is looked for


class SampleIndex(int):
    """A sample's number that also knows its epoch, and whether it only fills up the last batch of it.

    A padding sample keeps the processes in step; it is no part of the epoch and must not count in the loss.
    """

    epoch: int = 0
    is_padding: bool = False

    def __new__(cls, value: int, epoch: int = 0, is_padding: bool = False) -> "SampleIndex":
        index = super().__new__(cls, value)
        index.epoch = epoch
        if is_padding:
            index.is_padding = True
        return index

    def __reduce__(self) -> tuple[Any, ...]:
        return SampleIndex, (int(self), self.epoch, self.is_padding)


class ResumableSampler(Sampler[int]):
    """Base: cuts the order of an epoch into steps and processes. Subclasses give the order.

    Args:
        num_samples: samples in the dataset, at least 1.
        global_batch_size: samples per optimizer step over all processes; a multiple of `world_size`.
        rank, world_size: this process and the number of processes.
        seed: of the order, the same in every process.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, num_samples: int, *, global_batch_size: int, rank: int = 0, world_size: int = 1, seed: int = 7
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"a sampler needs at least one sample, got {num_samples}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
        if global_batch_size < 1 or global_batch_size % world_size:
            raise ValueError(
                f"global_batch_size must be a multiple of the number of processes ({world_size}), "
                f"got {global_batch_size}"
            )
        self.num_samples = num_samples
        self.global_batch_size = global_batch_size
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.epoch = 0
        self.step = 0

    def global_order(self, epoch: int) -> Indices:
        """Sample numbers of `epoch` in the order in which the processes together see them."""
        raise NotImplementedError

    @property
    def samples_per_epoch(self) -> int:
        """Length of `global_order`, the same for every epoch."""
        raise NotImplementedError

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the last one may have fewer samples than `global_batch_size`."""
        return -(-self.samples_per_epoch // self.global_batch_size)

    def set_position(self, epoch: int, step: int = 0) -> None:
        """Make the next iteration start at optimizer step `step` of `epoch`.

        Raises:
            ValueError: there is no such step; `steps_per_epoch` itself is allowed and gives an empty iteration.
        """
        if epoch < 0 or not 0 <= step <= self.steps_per_epoch:
            raise ValueError(f"no step {step} in epoch {epoch}: an epoch has {self.steps_per_epoch} steps")
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Number of samples that an iteration from the current position yields in this process."""
        full, rest = divmod(self.samples_per_epoch, self.global_batch_size)
        remaining = (full - self.step) * (self.global_batch_size // self.world_size)
        return remaining - (-rest // self.world_size) if self.step <= full else 0

    def __iter__(self) -> Iterator[SampleIndex]:
        epoch, step, share = self.epoch, self.step, self.global_batch_size // self.world_size
        if step == self.steps_per_epoch:
            return
        order = self.global_order(epoch)
        full, rest = divmod(len(order), self.global_batch_size)
        batches = order[: full * self.global_batch_size].reshape(full, self.world_size, share)
        for value in batches[step:, self.rank].ravel().tolist():
            yield SampleIndex(value, epoch)
        if rest:
            yield from self._last_step(order[-rest:], epoch)

    def _last_step(self, last: Indices, epoch: int) -> Iterator[SampleIndex]:
        """This process's share of a short last batch; all shares are equally long, the missing ones are padding."""
        share = -(-len(last) // self.world_size)
        for position in range(self.rank * share, (self.rank + 1) * share):
            is_padding = position >= len(last)
            yield SampleIndex(int(last[0 if is_padding else position]), epoch, is_padding)

    def state_dict(self) -> dict[str, int]:
        """Where the sampler stands, and what its order depends on."""
        return {"epoch": self.epoch, "step": self.step, **self._identity()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to where another sampler of the same data, seed and global batch size stood (any number of processes).

        Raises:
            ValueError: it was a sampler of another order, so that a step means something else.
        """
        for name, value in self._identity().items():
            if state[name] != value:
                raise UserError(f"resume: the checkpoint was written with {name} {state[name]}, this run has {value}")
        self.set_position(state["epoch"], state["step"])

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self.seed, "num_samples": self.num_samples, "global_batch_size": self.global_batch_size,
        }  # fmt: skip


class DistributedSampler(ResumableSampler):
    """Every sample once per epoch, shuffled by seed + epoch or in the dataset's order.

    Args:
        shuffle: False keeps the dataset's order.
        **options: see `ResumableSampler`.
    """

    def __init__(self, num_samples: int, *, shuffle: bool = True, **options: Any) -> None:
        super().__init__(num_samples, **options)
        self.shuffle = shuffle

    @property
    def samples_per_epoch(self) -> int:
        return self.num_samples

    def global_order(self, epoch: int) -> Indices:
        if not self.shuffle:
            return np.arange(self.num_samples, dtype=np.int64)
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(self.num_samples, generator=generator).numpy()


class SplitModalitySampler(ResumableSampler):
    """Prismatic's: a global batch is all multimodal or all text-only, its processes get similar summed lengths.

    The last batch of each modality is filled up with that modality's own first examples (repeated as often as needed),
    which count like any other: every example comes at least once per epoch. The batch with the longest example comes
    first, so that running out of memory happens at once. Which examples a global batch holds depends on seed and epoch
    only; which process gets which of them depends on the number of processes, too.

    Args:
        modality_lengths: by example, (is_multimodal, length); a list of pairs or an int array [N, 2].
        **options: see `ResumableSampler`.
    """

    def __init__(self, modality_lengths: Sequence[tuple[bool, int]] | NDArray[np.int64], **options: Any) -> None:
        super().__init__(len(modality_lengths), **options)
        table = np.asarray(modality_lengths)
        if table.ndim != 2 or table.shape[1] != 2:
            raise ValueError(f"modality_lengths must be (is_multimodal, length) pairs, got shape {table.shape}")
        self.is_multimodal = table[:, 0].astype(bool)
        self.lengths = table[:, 1].astype(np.int32)

    @property
    def samples_per_epoch(self) -> int:
        size, multimodal = self.global_batch_size, int(self.is_multimodal.sum())
        return sum(-(-count // size) * size for count in (multimodal, self.num_samples - multimodal))

    def global_order(self, epoch: int) -> Indices:
        generator = torch.Generator().manual_seed(self.seed + epoch)
        batches = np.empty((self.steps_per_epoch, self.global_batch_size), dtype=np.int32)  # multimodal ones first
        longest = np.empty(len(batches), dtype=np.int64)
        start = 0
        for mask, extra in ((self.is_multimodal, IMAGE_TOKENS), (~self.is_multimodal, 0)):
            examples = np.flatnonzero(mask).astype(np.int32)
            examples = examples[torch.randperm(len(examples), generator=generator).numpy()]
            count = -(-len(examples) // self.global_batch_size)
            # np.resize goes on from the start where the examples run out
            batches[start : start + count] = np.resize(examples, (count, self.global_batch_size))
            for rows in _slices(start, start + count, max(1, CHUNK // self.global_batch_size)):
                longest[rows] = self._deal(batches[rows]) + extra
            start += count
        order = torch.randperm(len(batches), generator=generator).numpy()
        heaviest = int(longest[order].argmax())
        order[[0, heaviest]] = order[[heaviest, 0]]
        return batches[order].ravel()

    def _deal(self, batches: NDArray[np.int32]) -> Indices:
        """Sort each global batch and deal it to the processes, in place; returns the longest length in each."""
        lengths, positions = longest_first(self.lengths[batches])
        places = deal(lengths, self.world_size)
        np.put_along_axis(batches, places, np.take_along_axis(batches, positions, axis=1), axis=1)
        return lengths[:, 0]


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, stop)) for first in range(start, stop, size))
