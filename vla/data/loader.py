"""The DataLoader: samples read ahead by worker processes, in the sampler's order, with errors that say what failed."""

import atexit
import signal
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from vla.batches import Batch
from vla.data.datasets.base import MapDataset
from vla.data.errors import BadData, SampleError, one_line
from vla.data.samplers import ResumableSampler, SampleIndex

SMALL_BYTES = 2**16  # tensors up to this size go through the pipe between processes
_MASK = 2**64 - 1


def mix_seed(seed: int, epoch: int, index: int) -> int:
    """A well-mixed number in [0, 2^63) of the run's seed, the epoch and the sample (SplitMix64)."""
    state = 0
    for value in (seed, epoch, index):
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def get_dataloader(
    dataset: MapDataset,
    sampler: ResumableSampler,
    collator: Callable[[list[dict[str, Any]]], Batch],
    *,
    batch_size: int,
    num_workers: int = 0,
    prefetch_factor: int = 4,
    seed: int = 7,
    pin_memory: bool = False,
    start_method: str | None = None,
) -> DataLoader:
    """Batches of one process. Order and content don't depend on the number of workers.

    Iterating goes from the sampler's position to the end of its epoch; workers stay for the next iteration. No global
    random number generator is drawn from.

    Args:
        dataset: what to read.
        sampler: in which order.
        collator: makes a batch of samples.
        batch_size: samples per batch; divides the process's share of a global batch, so that none lies across two.
        num_workers: processes that read ahead; 0 reads in this one.
        prefetch_factor: batches that each of them keeps ready.
        seed: of the run; `rng_seed` of a sample is made of it, the epoch and the sample's number.
        pin_memory: put batches into page-locked memory.
        start_method: fork | spawn | forkserver; None is the platform's.

    Raises:
        ValueError: `batch_size` doesn't fit.
        BadData, SampleError: while iterating, one line that names the sample which can't be read.
    """
    share = sampler.global_batch_size // sampler.world_size
    if batch_size < 1 or share % batch_size:
        raise ValueError(f"batch_size must divide a process's share of the global batch ({share}), got {batch_size}")
    workers: dict[str, Any] = {}
    if num_workers:
        workers = {
            "prefetch_factor": prefetch_factor,
            "persistent_workers": True,
            "multiprocessing_context": start_method,
            "worker_init_fn": leave_signals_to_parent,
        }
    return _Loader(
        _Reading(dataset, seed),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=_Collating(collator),
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(seed),
        **workers,
    )


def leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C and schedulers signal the whole process group; the training process saves first, then stops its workers.

    A worker whose parent is gone ends by itself (it looks after its parent every few seconds).
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


# Iterators whose workers may still run when the program ends.
_READING: weakref.WeakSet[Any] = weakref.WeakSet()


@atexit.register
def _kill_workers() -> None:
    """At the end of the program Python asks leftover processes to terminate and waits: workers would not listen."""
    for batches in list(_READING):
        for worker in getattr(batches, "_workers", []):
            worker.kill()


class Failure:
    """An exception on its way from a worker; a raised one would arrive wrapped in a traceback."""

    def __init__(self, error: Exception, label: str) -> None:
        if isinstance(error, BadData):
            self.error: Exception = error
        else:
            details = "".join(traceback.format_exception(error))
            self.error = SampleError(f"{label}: {type(error).__name__}: {one_line(error)}", details)


class _Reading(Dataset):
    """The dataset with what the loader adds to its samples."""

    def __init__(self, dataset: MapDataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SampleIndex) -> dict[str, Any] | Failure:
        try:
            sample = self.dataset[int(index)]
        except Exception as error:
            return Failure(error, self._label(index))
        epoch = getattr(index, "epoch", 0)
        added = {
            "sample_id": int(index),
            "rng_seed": mix_seed(self.seed, epoch, int(index)),
            "is_padding": getattr(index, "is_padding", False),
        }
        return {**sample, **added}

    def _label(self, index: int) -> str:
        try:
            return self.dataset.sample_label(int(index))
        except Exception:  # a label must not hide the error that it is for
            return f"sample {int(index)}"


class _Collating:
    def __init__(self, collator: Callable[[list[dict[str, Any]]], Batch]) -> None:
        self.collator = collator

    def __call__(self, results: list[dict[str, Any] | Failure]) -> "Batch | Failure | Parcel":
        samples = []
        for result in results:
            if isinstance(result, Failure):
                return result
            samples.append(result)
        try:
            batch = self.collator(samples)
        except Exception as error:
            return Failure(error, f"batch of samples {[sample['sample_id'] for sample in samples]}")
        return Parcel.wrap(batch)


class Parcel:
    """A batch on its way from a worker.

    Every tensor would come through shared memory of its own, whose handshake costs as much as reading a sample; small
    ones travel as plain bytes instead.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @staticmethod
    def wrap(batch: Batch) -> "Batch | Parcel":
        """`batch` as it is to be given from here: in a worker, as a parcel."""
        return batch if get_worker_info() is None else Parcel(batch)

    def __reduce__(self) -> tuple[Any, ...]:
        small: list[np.ndarray | None] = []  # in the order of map_tensors; None for what travels as a tensor

        def take_out(tensor: Tensor) -> Tensor:
            is_small = tensor.nbytes <= SMALL_BYTES and tensor.dtype != torch.bfloat16  # NumPy has no bfloat16
            small.append(tensor.numpy() if is_small else None)
            return torch.empty(0) if is_small else tensor

        return _unpack, (self.batch.map_tensors(take_out), small)


def _unpack(batch: Batch, small: list[np.ndarray | None]) -> Batch:
    arrays = iter(small)

    def put_back(tensor: Tensor) -> Tensor:
        array = next(arrays)
        return tensor if array is None else torch.from_numpy(array)

    return batch.map_tensors(put_back)


def watch_workers(batches: Any) -> Any:
    """Have the workers of a DataLoader's iterator killed at the end of the program; returns the iterator."""
    _READING.add(batches)
    return batches


class _Loader(DataLoader):
    def __iter__(self) -> "_Checked":  # type: ignore[override]
        batches = super().__iter__()
        if self.num_workers:
            watch_workers(batches)
        return _Checked(batches, self._stop_workers)

    def _stop_workers(self) -> None:
        """Stop them now: left to garbage collection after an error, each would be waited for for five seconds."""
        workers, self._iterator = self._iterator, None
        if workers is not None:
            workers._shutdown_workers()  # type: ignore[attr-defined]


class _Checked:
    """Raises failures that arrive among the batches."""

    def __init__(self, batches: Iterator, on_failure: Callable[[], None]) -> None:
        self._batches = batches
        self._on_failure = on_failure

    def __iter__(self) -> "_Checked":
        return self

    def __next__(self) -> Batch:
        batch = next(self._batches)
        if isinstance(batch, Failure):
            self._on_failure()
            raise batch.error
        return batch
