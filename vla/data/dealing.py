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
    # The state of a process in one number, so that the smallest one says who takes the next example, and where it
    # comes: summed length above the next place of the process. One that has its share is beyond all others. Rows are
    # columns here: a minimum over processes is then one of whole vectors.
    bits = max(1, (size - 1).bit_length())
    dtype = _smallest(2 * (int(lengths.max(initial=0)) * share + 1), bits)
    places = np.arange(size)
    beyond = np.zeros(size, dtype=dtype)
    beyond[share - 1 :: share] = np.iinfo(dtype).max // 2 + 1
    rows_of_states = places // share * count
    states = np.repeat(places[::share, None].astype(dtype), count, axis=1)
    added = np.array(lengths.T, dtype=dtype, order="C")
    added <<= bits
    added += 1
    dealt = np.empty((size, count), dtype=np.int64)
    columns, flat = np.arange(count), states.ravel()
    state, where = np.empty(count, dtype=dtype), np.empty(count, dtype=np.int64)
    for length, place in zip(added, dealt, strict=True):
        np.minimum.reduce(states, axis=0, out=state)
        np.bitwise_and(state, (1 << bits) - 1, out=place)
        state += length
        state += beyond[place]
        np.add(rows_of_states[place], columns, out=where)
        flat[where] = state
    return dealt.T


def _smallest(limit: int, bits: int) -> type[np.signedinteger]:
    """The integers to calculate with: numbers below `limit`, shifted by `bits`, must fit."""
    return np.int32 if limit << bits < 2**31 else np.int64
