"""HDF5 files that reach beyond themselves: links to other files, data that lies in them, sizes that nobody stored.

A file that somebody else wrote could have any other file of this machine read in its place, or claim an array that no
memory holds: fill values take no space on the disk.
"""

import math
from collections.abc import Iterable

import h5py

from vla.data.datasets.episodes import MAX_PIXELS, MAX_STEPS

MAX_BYTES = 2**30  # of an array that is read at once; images are read step by step


def leads_out(group: h5py.Group, name: str) -> bool:
    """Whether the entry `name` (no path) of a group is a link to another file."""
    return name in group.keys() and isinstance(group.get(name, getlink=True), h5py.ExternalLink)


def check_inside(group: h5py.Group, entry: str, names: Iterable[str]) -> None:
    """Check what will be read of `group[entry]`.

    Args:
        group: holds it.
        entry: name of a group.
        names: paths below it; those that are not there are left to the reader.

    Raises:
        ValueError: a path leads to another file, or an array is larger than any that was ever recorded.
    """
    for name in names:
        place = group
        for part in (entry, *name.split("/")):
            if not isinstance(place, h5py.Group) or part not in place.keys():
                break
            if leads_out(place, part):
                raise ValueError(f"'{name}' is a link to another file, which is not followed")
            place = place[part]
        else:
            if isinstance(place, h5py.Dataset):
                _check_dataset(place, name)


def _check_dataset(dataset: h5py.Dataset, name: str) -> None:
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"'{name}' lies in another file, which is not read")
    if dataset.shape and dataset.shape[0] > MAX_STEPS:
        raise ValueError(f"'{name}' has {dataset.shape[0]} steps, more than {MAX_STEPS}")
    if dataset.ndim == 4:
        if dataset.shape[1] * dataset.shape[2] > MAX_PIXELS:
            raise ValueError(f"'{name}' has images of {dataset.shape[1]} x {dataset.shape[2]} pixels")
    elif dataset.nbytes > MAX_BYTES:
        raise ValueError(f"'{name}' takes {dataset.nbytes / 2**30:.1f} GiB, more than {MAX_BYTES / 2**30:.0f}")
    if dataset.chunks is not None:  # a few kilobytes, well compressed, can be a block of any size
        # A block is decoded as a whole, and kept with all that lies beside it (`FrameReader`).
        layer = math.prod((min(dataset.chunks[0], dataset.shape[0]), *dataset.shape[1:]))
        size = max(math.prod(dataset.chunks), layer) * dataset.dtype.itemsize
        if size > MAX_BYTES:
            raise ValueError(
                f"'{name}' is stored in blocks of {size / 2**30:.1f} GiB, more than {MAX_BYTES / 2**30:.0f}"
            )
