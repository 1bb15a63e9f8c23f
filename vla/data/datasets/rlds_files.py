"""A dataset in RLDS: its fields, its episodes, and their frames, read in place."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla.data.datasets.encoded_images import IMAGE_ERRORS, decode_into
from vla.data.datasets.episodes import BoundedCache, Frames, FrameSource, OpensForItself
from vla.data.datasets.optional import import_rlds
from vla.data.datasets.rlds_format import read_description
from vla.data.datasets.rlds_index import IndexedEpisode, Wanted, read_index
from vla.data.datasets.robot_files import Fields, Keys, StoredEpisode, as_columns, stretches
from vla.data.errors import BadEpisode, one_line
from vla.errors import UserError

MAX_OPEN_FILES = 64
Places = dict[str, dict[str, NDArray[np.int64]]]  # spans [T, 2] by name of the episode and key of the camera


class RLDSFiles:
    """An opened dataset; see `vla.data.datasets.robot_files.RobotFiles`.

    Args:
        root: folder with features.json and *.tfrecord-* files, or the one that holds that folder.

    Raises:
        UserError: there is no such data, or google-crc32c is not installed.
    """

    layout = "RLDS"

    def __init__(self, root: Path) -> None:
        description = read_description(root)
        import_rlds("google_crc32c")
        self.root = description.root
        self.name = description.name
        self.splits = description.splits
        self._lengths = description.lengths
        self._fields = description.fields
        images = {
            key: (item.shape[0], item.shape[1]) if min(item.shape[:2]) > 0 else None
            for key, item in description.fields.items()
            if item.kind == "image" and key.startswith("steps/") and len(item.shape) == 3 and item.shape[2] in (3, -1)
        }
        numbers = {
            key: tuple(f"{key.rpartition('/')[2]} {n}" for n in range(int(np.prod(item.shape))))
            for key, item in description.fields.items()
            if item.kind == "number" and key.startswith("steps/") and all(size > 0 for size in item.shape)
        }
        texts = tuple(key for key, item in description.fields.items() if item.kind == "text")
        self.fields = Fields(images, numbers, texts)
        self.claims: list[str] = []
        self._places: Places = {}

    def episodes(self, keys: Keys, split: str | None = None) -> Iterator[StoredEpisode | BadEpisode]:
        """Every episode of a split (None: of all splits) in order, or what is wrong with it."""
        if split is not None and split not in self.splits:
            raise UserError(f"dataset.split: must be one of {', '.join(self.splits)}, got {split!r}")
        self.claims.clear()
        wanted = Wanted(keys.cameras, tuple(dict.fromkeys(keys.actions + keys.states)), keys.instruction)
        for name in self.splits if split is None else [split]:
            none: list[int | None] = [None] * len(self.splits[name])
            claimed = list(self._lengths.get(name) or none)
            for path, said in zip(self.splits[name], claimed, strict=False):
                try:
                    found = read_index(path, wanted)
                except OSError as error:
                    yield BadEpisode(f"{path}: can't be read: {error.strerror or one_line(error)}")
                    continue
                if said is not None and said != len(found):
                    self.claims.append(f"dataset_info.json says {said} episodes of {path.name}, it has {len(found)}")
                for item in found:
                    yield self._stored(path, item, keys)

    def _stored(self, path: Path, item: IndexedEpisode, keys: Keys) -> StoredEpisode | BadEpisode:
        name = f"episode_{item.number:05d}"
        try:
            if item.error:
                raise ValueError(item.error)
            actions = self._together(item, keys.actions)
            states = self._together(item, keys.states) if keys.states else None
        except ValueError as error:
            return BadEpisode(f"{path}: {name}: {one_line(error)}")
        codes = np.unique(np.array(item.texts), return_inverse=True)[1].reshape(-1)
        texts = [(start, item.texts[start]) for start in stretches(codes).tolist()]
        digest = hashlib.sha256(actions.tobytes() + (b"" if states is None else states.tobytes()))
        for key in keys.cameras:
            # Lengths of compressed pictures stand for the pictures.
            digest.update(key.encode() + np.ascontiguousarray(item.spans[key][:, 1]).tobytes())
        self._places[f"{path.name}/{name}"] = {key: item.spans[key] for key in keys.cameras}
        sizes = {key: item.sizes[key] for key in keys.cameras}
        return StoredEpisode(path.name, name, actions, states, texts, sizes, digest.digest())

    def _together(self, item: IndexedEpisode, keys: tuple[str, ...]) -> NDArray[np.float32]:
        return np.concatenate([as_columns(item.numbers[key], item.steps, key) for key in keys], axis=1)

    def frames(self, cameras: dict[str, str], cache_bytes: int) -> FrameSource:
        """Reads frames of the episodes that `episodes` gave."""
        return RLDSFrames(self.root, cameras, self._places, cache_bytes)


class RLDSFrames(OpensForItself):
    """Reads frames out of TFRecord files by their places; see `vla.data.datasets.episodes.FrameSource`.

    Args:
        root: folder of the files.
        cameras: key by the name that is asked for.
        places: of all pictures.
        cache_bytes: bound of the decoded frames that a process keeps.
    """

    settings = ("root", "cameras", "places", "cache_bytes")

    def __init__(self, root: Path, cameras: dict[str, str], places: Places, cache_bytes: int) -> None:
        self.root = root
        self.cameras = cameras
        self.places = places
        self.cache_bytes = cache_bytes
        self._reset()

    def _reset(self) -> None:
        self._cache = BoundedCache(self.cache_bytes)
        self._files: OrderedDict[str, int] = OrderedDict()
        self.counters = {"hits": 0, "decoded": 0}

    @property
    def cached_bytes(self) -> int:
        """Bytes of frames that this process keeps."""
        return self._cache.bytes

    def close(self) -> None:
        """Close all files and forget all frames."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._reset()

    def read(self, file: str, demo: str, camera: str, rows: Sequence[int], out: Frames) -> None:
        """Copy frames `rows` of a camera into `out`; see `FrameSource`."""
        key = self.cameras[camera]
        spans = self.places[f"{file}/{demo.partition('[')[0]}"][key]
        try:
            for target, row in zip(out, rows, strict=True):
                self._frame(file, int(spans[row, 0]), int(spans[row, 1]), target)
        except (*IMAGE_ERRORS, IndexError) as error:
            where = f"{self.root / file}: {demo}: {key} frames {rows[0]} to {rows[-1]}"
            raise BadEpisode(f"{where} can't be read: {one_line(error)}") from None

    def _frame(self, file: str, offset: int, length: int, out: Frames) -> None:
        kept = self._cache.get((file, offset))
        if kept is not None and kept.shape == out.shape:
            self.counters["hits"] += 1
            np.copyto(out, kept)
            return
        data = os.pread(self._open(file), length, offset)
        if len(data) != length:
            raise OSError("the file ends before it")
        decode_into(data, out)
        self.counters["decoded"] += 1
        if self.cache_bytes:
            self._cache.put((file, offset), out.copy(), out.nbytes)

    def _open(self, file: str) -> int:
        if file not in self._files:
            while len(self._files) >= MAX_OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
            self._files[file] = os.open(self.root / file, os.O_RDONLY)
        self._files.move_to_end(file)
        return self._files[file]
