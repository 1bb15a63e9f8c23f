"""Connected regions of a mask."""

import numpy as np
from numpy.typing import NDArray


def label_regions(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """
    Numbers of the regions of pixels that touch each other, at corners too.

    Args:
        mask: bool [H, W].

    Returns:
        int64 [H, W]: 0 outside, regions from 1 on, row by row.
    """
    rows, starts, ends = _runs(mask)
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    first = np.searchsorted(rows, np.arange(mask.shape[0] + 1))  # of each row
    for row in range(1, mask.shape[0]):
        above, end_above, here = first[row - 1], first[row], first[row]
        while above < end_above and here < first[row + 1]:
            if starts[above] <= ends[here] and starts[here] <= ends[above]:  # ends are exclusive: corners touch
                parents[max(root(above), root(here))] = min(root(above), root(here))
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    numbers: dict[int, int] = {}
    labels = np.zeros(mask.shape, dtype=np.int64)
    for run, (row, start, end) in enumerate(zip(rows, starts, ends, strict=True)):
        labels[row, start:end] = numbers.setdefault(root(run), len(numbers) + 1)
    return labels


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, first and last-but-one column of every run of pixels in a row, row by row."""
    padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1)))
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return rows, starts, ends


def region_weights(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """
    Weights that count every region of a mask once, whatever its size.

    Returns:
        float64 [number of True pixels, in the mask's order]: 1 / pixels of its region; and the number of regions.
    """
    labels = label_regions(mask)[mask]
    sizes = np.bincount(labels, minlength=1)
    return 1.0 / sizes[labels], len(sizes) - 1
