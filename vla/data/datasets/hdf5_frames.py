"""Reading single frames out of HDF5 files quickly: own handles per process, raw reads, and a bounded cache.

Uncompressed images lie in one piece in the file, so a frame is read by its offset, past the HDF5 library. Compressed
ones come in chunks of several frames, of which the library would decode a whole layer for every single frame; such a
layer is decoded once and kept, as uint8, in a cache that is bounded in bytes.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from vla.data.datasets.episodes import BoundedCache, Frames, OpensForItself
from vla.data.datasets.libero_format import CAMERA_SUFFIX
from vla.data.errors import BadEpisode, one_line

MAX_OPEN_FILES = 128
CHUNK_CACHE = {"rdcc_nbytes": 16 * 2**20, "rdcc_nslots": 4999}  # holds the layer of chunks that a window lies in


@dataclass
class _Images:
    """One camera of one demonstration, open."""

    dataset: h5py.Dataset
    offset: int | None  # of the first frame in the file, if all frames lie there as they are
    frame_bytes: int
    block: int  # frames that are decoded together


@dataclass
class _OpenFile:
    handle: h5py.File
    descriptor: int
    images: dict[tuple[str, str], _Images] = field(default_factory=dict)

    def close(self) -> None:
        self.images.clear()
        self.handle.close()
        os.close(self.descriptor)


class FrameReader(OpensForItself):
    """Reads frames of cameras of demonstrations. Cheap to pickle; every process opens the files for itself.

    Args:
        root: folder that file names are relative to.
        cache_bytes: bound of the decoded frames that a process keeps; 0 keeps none.
        max_open_files: files that a process holds open; the least recently used one is closed.
    """

    settings = ("root", "cache_bytes", "max_open_files")

    def __init__(self, root: Path, cache_bytes: int, max_open_files: int = MAX_OPEN_FILES) -> None:
        self.root = root
        self.cache_bytes = cache_bytes
        self.max_open_files = max_open_files
        self._reset()

    def _reset(self) -> None:
        self.process = os.getpid()
        self.counters = {"raw": 0, "hits": 0, "misses": 0, "opened": 0}  # frames, frames, blocks, files
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._blocks = BoundedCache(self.cache_bytes)

    @property
    def cached_bytes(self) -> int:
        """Bytes of frames that this process keeps."""
        return self._blocks.bytes

    def close(self) -> None:
        """Close all files and forget all frames; reading again opens them anew."""
        for file in self._files.values():
            file.close()
        self._reset()

    def read(self, file: str, demo: str, camera: str, rows: Sequence[int], out: Frames) -> None:
        """Copy frames `rows` of `camera` into `out`.

        Args:
            file: path below the root.
            demo, camera: e.g. "demo_0", "agentview".
            rows: of the images in the file, any order.
            out: uint8 [len(rows), H, W, 3]; each frame of it must be contiguous.

        Raises:
            BadEpisode: a frame can't be read.
        """
        try:
            images = self._open(file, demo, camera)
            if images.offset is not None:
                self._read_raw(file, images.offset, images.frame_bytes, rows, out)
            elif self.cache_bytes:
                self._read_blocks((file, demo, camera), images, rows, out)
            else:
                for target, row in zip(out, rows, strict=True):
                    images.dataset.read_direct(target, np.s_[row])
        except (OSError, RuntimeError, KeyError) as error:
            where = f"{self.root / file}: {demo}: {camera} frames {rows[0]} to {rows[-1]}"
            raise BadEpisode(f"{where} can't be read: {one_line(error)}") from None

    def _open(self, file: str, demo: str, camera: str) -> _Images:
        if self.process != os.getpid():
            # A fork: handles shared with the parent would share its library state. Decoded frames are just memory.
            for inherited in self._files.values():
                inherited.close()
            self._files.clear()
            self.process = os.getpid()
        entry = self._files.get(file)
        if entry is None:
            entry = self._open_file(file)
        self._files.move_to_end(file)
        images = entry.images.get((demo, camera))
        if images is None:
            images = _describe(entry.handle[f"data/{demo}/obs/{camera}{CAMERA_SUFFIX}"])
            if images.offset is not None or self.cache_bytes:
                entry.images[demo, camera] = images  # else it is closed after use, and the library's cache with it
        return images

    def _open_file(self, file: str) -> _OpenFile:
        while len(self._files) >= self.max_open_files:
            self._files.popitem(last=False)[1].close()
        path = self.root / file
        # The library keeps decoded chunks of every dataset that is open: with a cache of our own, twice and unbounded.
        handle = h5py.File(path, "r", **({"rdcc_nbytes": 0} if self.cache_bytes else CHUNK_CACHE))
        self._files[file] = _OpenFile(handle, os.open(path, os.O_RDONLY))
        self.counters["opened"] += 1
        return self._files[file]

    def _read_raw(self, file: str, offset: int, frame_bytes: int, rows: Sequence[int], out: Frames) -> None:
        descriptor = self._files[file].descriptor
        for target, row in zip(out, rows, strict=True):
            if os.preadv(descriptor, [target], offset + int(row) * frame_bytes) != frame_bytes:
                raise OSError(f"the file ends before frame {row}")
        self.counters["raw"] += len(rows)

    def _read_blocks(self, where: tuple[str, str, str], images: _Images, rows: Sequence[int], out: Frames) -> None:
        for target, row in zip(out, rows, strict=True):
            number, inside = divmod(int(row), images.block)
            np.copyto(target, self._block(where, images, number)[inside])

    def _block(self, where: tuple[str, str, str], images: _Images, number: int) -> Frames:
        key = (*where, number)
        frames = self._blocks.get(key)
        if frames is not None:
            self.counters["hits"] += 1
            return frames
        self.counters["misses"] += 1
        frames = images.dataset[number * images.block : (number + 1) * images.block]
        self._blocks.put(key, frames, frames.nbytes)
        return frames


def _describe(dataset: h5py.Dataset) -> _Images:
    frame_bytes = int(np.prod(dataset.shape[1:]))
    raw = dataset.chunks is None and hasattr(os, "preadv")
    # The offset is None for a dataset that was never written; the library then gives its fill value.
    offset = dataset.id.get_offset() if raw else None
    return _Images(dataset, offset, frame_bytes, dataset.chunks[0] if dataset.chunks else 1)
