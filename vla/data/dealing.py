"""Sorting batches by length and dealing them out to processes, for many batches at once."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]


def longest_first(lengths: Integers) -> tuple[Integers, Integers]:
    """Order of each row by falling length, equal ones as they came.

    Args:
        lengths: [n, G], not negative.

    Returns:
        The sorted lengths, and where each of them was in its row; both [n, G].
    """
    # One number per example, so that sorting needs no second array: length above position.
    bits = max(1, (lengths.shape[1] - 1).bit_length())
    dtype = _smallest(int(lengths.max(initial=0)) + 1, bits)
    keys = (-lengths.astype(dtype) << bits) | np.arange(lengths.shape[1], dtype=dtype)
    keys.sort(axis=1)
    return -(keys >> bits), keys & dtype((1 << bits) - 1)


def deal(lengths: Integers, num_processes: int) -> Integers:
    """Deal each row out: the next example goes to the process with the smallest summed length so far.

    A process that has its share (G / `num_processes` examples) takes no more; among equals the first one takes it.

    Args:
        lengths: [n, G] of examples in the order in which they are dealt, not negative.

    Returns:
        [n, G] int64: the place of each example in its row when every process's share lies together, process by process.
    """
    count, size = lengths.shape
    share = size // num_processes
    # The state of a process in one number, so that the smallest one names the process and says how much it has:
    # summed length, then the process, then the number of examples. Rows are columns here: a minimum over processes
    # is then one of whole vectors.
    share_bits, bits = share.bit_length(), share.bit_length() + max(1, (num_processes - 1).bit_length())
    dtype = _smallest(int(lengths.max(initial=0)) * share + 1, bits)
    full = np.iinfo(dtype).max
    first = np.arange(num_processes, dtype=dtype) << share_bits
    states = np.repeat(first[:, None], count, axis=1)
    added = np.array(lengths.T, dtype=dtype, order="C")
    added <<= bits
    added += 1
    places = np.empty((size, count), dtype=np.int64)
    columns, flat = np.arange(count), states.ravel()
    for length, place in zip(added, places, strict=True):
        state = states.min(axis=0)
        process = (state >> share_bits) & ((1 << bits - share_bits) - 1)
        position = state & ((1 << share_bits) - 1)
        np.multiply(process, share, out=place)
        place += position
        state += length
        state[position == share - 1] = full
        flat[process.astype(np.int64) * count + columns] = state
    return places.T


def _smallest(limit: int, bits: int) -> type[np.signedinteger]:
    """The integers to calculate with: numbers below `limit`, shifted by `bits`, must fit."""
    return np.int32 if limit << bits < 2**31 else np.int64
