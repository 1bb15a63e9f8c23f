"""Frames of a dataset in LeRobot's layout: pictures in parquet files, pictures beside them, or videos."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.datasets.encoded_images import IMAGE_ERRORS, decode_into
from vla.data.datasets.episodes import BoundedCache, Frames, OpensForItself
from vla.data.datasets.lerobot_meta import Video, inside
from vla.data.datasets.optional import import_lerobot
from vla.data.datasets.video_frames import VideoFrames
from vla.data.errors import BadEpisode, one_line

MAX_OPEN_FILES = 64
# What pyarrow raises on damaged files: its exceptions are of these kinds, too.
PARQUET_ERRORS = (OSError, ValueError, KeyError, TypeError, IndexError, NotImplementedError, MemoryError)


@dataclass(frozen=True, eq=False)
class Place:
    """Where an episode's frames lie."""

    first_row: int  # of its steps in its parquet file
    times: NDArray[np.float64]  # [T] of its steps, in seconds
    videos: dict[str, Video]  # by key of the camera; other cameras are columns


class LeRobotFrames(OpensForItself):
    """Reads frames; see `vla.data.datasets.episodes.FrameSource`.

    Args:
        root: of the dataset.
        cameras: key by the name that is asked for.
        places: of all episodes, by their names.
        cache_bytes: bound of the frames (decoded, or as a column has them) that a process keeps.
    """

    settings = ("root", "cameras", "places", "cache_bytes")

    def __init__(self, root: Path, cameras: dict[str, str], places: dict[str, Place], cache_bytes: int) -> None:
        self.root = root
        self.cameras = cameras
        self.places = places
        self.cache_bytes = cache_bytes
        self._reset()

    def _reset(self) -> None:
        self._cache = BoundedCache(self.cache_bytes)
        self._videos = VideoFrames(self._cache)
        self._files: OrderedDict[str, Any] = OrderedDict()
        self._row_groups = 0

    @property
    def counters(self) -> dict[str, int]:
        """Frames found, decoded from videos and sought; row groups read."""
        return {**self._videos.counters, "row_groups": self._row_groups}

    @property
    def cached_bytes(self) -> int:
        """Bytes of frames that this process keeps."""
        return self._cache.bytes

    def close(self) -> None:
        """Close all files and forget all frames."""
        self._videos.close()
        for file in self._files.values():
            file.close()
        self._reset()

    def read(self, file: str, demo: str, camera: str, rows: Sequence[int], out: Frames) -> None:
        """Copy frames `rows` of a camera into `out`; see `FrameSource`."""
        place, key = self.places[demo.partition("[")[0]], self.cameras[camera]
        video = place.videos.get(key)
        path = self.root / (video.path if video else file)
        try:
            if video is not None:
                self._videos.read(path, [video.start + float(place.times[row]) for row in rows], out)
            else:
                for target, row in zip(out, rows, strict=True):
                    decode_into(self._encoded(file, key, place.first_row + int(row)), target)
        except (*IMAGE_ERRORS, *PARQUET_ERRORS) as error:
            where = f"{path}: {demo}: {key} frames {rows[0]} to {rows[-1]}"
            raise BadEpisode(f"{where} can't be read: {one_line(error)}") from None

    def _encoded(self, file: str, key: str, row: int) -> bytes:
        """The picture in a row of a parquet file, as it lies there or in a file that the row names."""
        handle, ends = self._open(file)
        group = int(np.searchsorted(ends, row, side="right"))
        if group >= len(ends):
            raise ValueError(f"there is no row {row}")
        column = self._cache.get((file, key, group))
        if column is None:
            self._row_groups += 1
            column = handle.read_row_group(group, columns=[key], use_threads=False).column(0)
            self._cache.put((file, key, group), column, column.nbytes)
        value = column[row - (int(ends[group - 1]) if group else 0)].as_py()
        return encoded_picture(value, self.root)

    def _open(self, file: str) -> tuple[Any, NDArray[np.int64]]:
        entry = self._files.get(file)
        if entry is None:
            while len(self._files) >= MAX_OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            entry = self._files[file] = open_parquet(self.root / file)
        self._files.move_to_end(file)
        meta = entry.metadata
        return entry, np.cumsum([meta.row_group(number).num_rows for number in range(meta.num_row_groups)])


def open_parquet(path: Path) -> Any:
    """A parquet file. Raises OSError or ValueError (pyarrow's) if it is none."""
    parquet = import_lerobot("pyarrow.parquet")
    return parquet.ParquetFile(path, memory_map=False, pre_buffer=False)


def encoded_picture(value: Any, root: Path) -> bytes:
    """PNG or JPEG of a column's value: bytes, or the path of a file below the root.

    Raises:
        ValueError: it is neither, or leads out of the dataset.
        OSError: the file can't be read.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("the row holds no picture")
    return (root / inside(value)).read_bytes()
