"""Features of samples in memory-mapped files, so that runs that share a frozen backbone compute them once.

They are kept by episode: data that grows, is split otherwise or joins other data brings its known episodes along.
"""

import errno
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vla.data.errors import one_line
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, for whatever reason

_CHECKSUM = "checksum"

Features = dict[str, Tensor]  # of one sample, by name


class Place(NamedTuple):
    """Where a sample's features belong."""

    episode: str  # hash of the episode's content
    row: int  # its number in the episode
    length: int  # samples of the episode


class FeatureStore:
    """One file per episode and feature name, with a row per sample. Several processes may fill one folder at once.

    A row counts only with its checksum, which is written after it: what a killed process, or a machine that lost its
    power, left half written is computed again.

    Args:
        folder: of these weights and this transform alone (see `fingerprint`).
        locate: sample number -> its `Place`.
        example: features of any sample; gives names, shapes and dtypes (torch's that numpy has).

    Raises:
        UserError: the folder can't be written.
    """

    def __init__(self, folder: Path, locate: Callable[[int], tuple[str, int, int]], example: Features) -> None:
        self.folder, self._locate = folder, locate
        self._layout = {name: (tuple(value.shape), value.numpy().dtype) for name, value in example.items()}
        self._layout[_CHECKSUM] = ((), np.dtype(np.uint32))  # 0: the row isn't there
        self._open: dict[str, dict[str, np.ndarray] | None] = {}  # by episode; None: there is no room for it
        self._whole: dict[str, np.ndarray] = {}  # by episode: rows whose checksum was right
        self._told = False  # that there was one whose checksum was wrong
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"feature_cache.dir: {folder} can't be used: {error.strerror}") from error

    def __contains__(self, sample: int) -> bool:
        place = Place(*self._locate(sample))
        arrays = self._arrays(place)
        return arrays is not None and self._is_whole(place, arrays)

    def get(self, sample: int) -> Features:
        """The features of a sample that is there; copies."""
        place = Place(*self._locate(sample))
        arrays = self._arrays(place)
        assert arrays is not None
        return {name: torch.from_numpy(np.array(arrays[name][place.row])) for name in self._layout if name != _CHECKSUM}

    def put(self, sample: int, features: Features) -> None:
        """Write the features of a sample, then their checksum; where there is no room, nothing."""
        place = Place(*self._locate(sample))
        arrays = self._arrays(place)
        if arrays is None:
            return
        for name, value in features.items():
            arrays[name][place.row] = value.numpy()
        arrays[_CHECKSUM][place.row] = _checksum(arrays, place.row)

    def _is_whole(self, place: Place, arrays: dict[str, np.ndarray]) -> bool:
        kept = int(arrays[_CHECKSUM][place.row])
        if kept == 0:
            return False
        whole = self._whole.setdefault(place.episode, np.zeros(place.length, bool))
        if not whole[place.row]:
            whole[place.row] = kept == _checksum(arrays, place.row)
            if not whole[place.row] and not self._told:
                self._told = True
                overwatch.warning(
                    f"{self.folder}: {place.episode}[{place.row}] is damaged; such rows are computed again"
                )
        return bool(whole[place.row])

    def _arrays(self, place: Place) -> dict[str, np.ndarray] | None:
        if place.episode not in self._open:
            try:
                self._open[place.episode] = {
                    name: self._map(place, name, (place.length, *shape), dtype)
                    for name, (shape, dtype) in self._layout.items()
                }
            except (OSError, ValueError, RuntimeError) as error:
                if isinstance(error, OSError) and error.errno in _FULL:
                    if None not in self._open.values():
                        overwatch.error(f"{self.folder}: {one_line(error)}; what isn't kept is computed each time")
                    self._open[place.episode] = None
                    return None
                raise UserError(f"feature_cache.dir: {self.folder} can't be used: {one_line(error)}") from error
        return self._open[place.episode]

    def _map(self, place: Place, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The file's rows; made if there is none, under another name first: no process sees half of one."""
        path = self.folder / f"{place.episode}.{name}.npy"
        if not path.exists():
            beside = path.with_suffix(f".writing-{id(self)}-{np.random.default_rng().integers(2**62)}")
            try:
                np.lib.format.open_memmap(beside, "w+", dtype, shape)
                _take_room(beside)
                path.hardlink_to(beside)  # unlike a rename, keeps the file that another process made meanwhile
            except FileExistsError:
                pass
            finally:
                beside.unlink(missing_ok=True)
        array = np.load(path, mmap_mode="r+")
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{path.name} is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}; delete it")
        # NumPy's mapping holds the file open, PyTorch's doesn't: a picture is an episode of its own, and there are more
        # pictures than a process may have open files.
        whole = torch.from_file(str(path), shared=True, size=path.stat().st_size, dtype=torch.uint8).numpy()
        rows: np.ndarray = whole[array.offset : array.offset + array.nbytes].view(dtype).reshape(shape)
        return rows


def _checksum(arrays: dict[str, np.ndarray], row: int) -> int:
    """CRC-32 of a row's features; never 0."""
    value = 0
    for name in sorted(arrays.keys() - {_CHECKSUM}):
        value = zlib.crc32(arrays[name][row].tobytes(), value)
    return value or 1


def _take_room(path: Path) -> None:
    """Make sure of a file's room on the disk: a process that writes to a mapping for which there is none is killed.

    Raises:
        OSError: there is none.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def fingerprint(parts: Mapping[str, str], module: nn.Module) -> str:
    """Hash of everything that features depend on: `parts`, and the values of the module that computes them.

    Where a strategy shards the module, of this process's part of it.
    """
    digest = hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode())
    for name, value in sorted(module.state_dict().items()):
        local = value.to_local() if hasattr(value, "to_local") else value
        digest.update(name.encode())
        digest.update(local.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
