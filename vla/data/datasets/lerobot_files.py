"""A dataset in LeRobot's layout: its fields and its episodes, read in place."""

import hashlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.datasets.episodes import MAX_STEPS, FrameSource
from vla.data.datasets.lerobot_frames import PARQUET_ERRORS, LeRobotFrames, Place, open_parquet
from vla.data.datasets.lerobot_meta import Feature, Listed, read_meta
from vla.data.datasets.optional import import_lerobot
from vla.data.datasets.robot_files import Fields, Keys, StoredEpisode, as_columns, stretches
from vla.data.datasets.video_frames import video_size
from vla.data.errors import BadEpisode, one_line

_BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_NUMBERS = ("float", "int", "uint", "bool")


class LeRobotFiles:
    """An opened dataset; see `vla.data.datasets.robot_files.RobotFiles`.

    Args:
        root: folder with `meta/`.

    Raises:
        UserError: there is none, of a known version; or pyarrow or av is not installed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.meta = read_meta(root)
        import_lerobot("pyarrow.parquet")
        self.layout = f"LeRobot {self.meta.version}"
        features = self.meta.features
        images = {key: item.image_size for key, item in features.items() if item.image_size is not None}
        numbers = {
            key: _dimension_names(item)
            for key, item in features.items()
            if item.dtype.startswith(_NUMBERS) and key not in _BOOKKEEPING
        }
        texts = [key for key, item in features.items() if item.dtype == "string"]
        if self.meta.tasks:
            texts.insert(0, "task_index")
        self.fields = Fields(dict(images), numbers, tuple(texts), self.meta.fps)
        self.claims = self._claims()
        self._places: dict[str, Place] = {}
        self._sizes: dict[str, tuple[int, int, int]] = {}

    def _claims(self) -> list[str]:
        here = {"episodes": len(self.meta.episodes), "frames": sum(item.length for item in self.meta.episodes)}
        return [
            f"meta/info.json says {claimed} {name}, the list of episodes has {here[name]}"
            for name, claimed in self.meta.totals.items()
            if claimed != here[name]
        ]

    def episodes(self, keys: Keys, split: str | None = None) -> Iterator[StoredEpisode | BadEpisode]:
        """Every episode in order, or what is wrong with it (or with the whole file that it is in)."""
        if any(self.meta.features[key].dtype == "video" for key in keys.cameras):
            import_lerobot("av")
        for file, listed in groupby(self.meta.episodes, key=lambda item: item.data):
            try:
                table = self._read(file, keys)
            except PARQUET_ERRORS as error:
                yield BadEpisode(f"{self.root / file}: can't be read: {one_line(error)}")
                continue
            for item in listed:
                try:
                    yield self._episode(item, table, keys)
                except PARQUET_ERRORS as error:
                    yield BadEpisode(f"{self.root / file}: {_name(item)}: {one_line(error)}")

    def frames(self, cameras: dict[str, str], cache_bytes: int) -> FrameSource:
        """Reads frames of the episodes that `episodes` gave."""
        return LeRobotFrames(self.root, cameras, self._places, cache_bytes)

    def _read(self, file: str, keys: Keys) -> dict[str, NDArray[Any]]:
        """Values of all steps of a parquet file, by key; pictures are not read."""
        if not (self.root / file).is_file():
            raise ValueError("there is no such file")
        with open_parquet(self.root / file) as parquet:
            steps, known = parquet.metadata.num_rows, parquet.schema_arrow.names
            if not 0 < steps <= MAX_STEPS:
                raise ValueError(f"has {steps} steps")
            wanted = dict.fromkeys((*keys.actions, *keys.states, keys.instruction, "episode_index"))
            wanted |= dict.fromkeys(name for name in ("timestamp", "frame_index") if name in known)
            pictures = [key for key in keys.cameras if self.meta.features[key].dtype == "image"]
            lacking = [name for name in (*wanted, *pictures) if name not in known]
            if lacking:
                raise ValueError(f"no column '{lacking[0]}'; there are {', '.join(known)}")
            table = parquet.read(columns=list(wanted), use_threads=False)
        found = {}
        for key in wanted:
            values = _values(table.column(key), key)
            found[key] = as_columns(values, steps, key) if key in keys.actions + keys.states else values.reshape(-1)
        return found

    def _episode(self, item: Listed, table: dict[str, NDArray[Any]], keys: Keys) -> StoredEpisode:
        own = np.flatnonzero(table["episode_index"] == item.index)
        if len(own) != item.length or len(own) == 0:
            raise ValueError(f"has {len(own)} steps, the description says {item.length}")
        first = int(own[0])
        if int(own[-1]) - first + 1 != len(own):
            raise ValueError("its steps do not lie together")
        part = {key: values[first : first + len(own)] for key, values in table.items()}
        if "frame_index" in part and not np.array_equal(part["frame_index"], np.arange(len(own))):
            raise ValueError("its frame_index does not count from 0")
        times = part["timestamp"].astype(np.float64) if "timestamp" in part else np.arange(len(own)) / self.meta.fps
        if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
            raise ValueError("its timestamps do not increase")
        actions = np.concatenate([part[key] for key in keys.actions], axis=1)
        states = np.concatenate([part[key] for key in keys.states], axis=1) if keys.states else None
        digest = hashlib.sha256(np.ascontiguousarray(actions).tobytes() + times.tobytes())
        digest.update(b"" if states is None else np.ascontiguousarray(states).tobytes())
        shapes = {key: self._picture(key, item, digest, float(times[-1])) for key in keys.cameras}
        self._places[_name(item)] = Place(first, times, {k: v for k, v in item.videos.items() if k in keys.cameras})
        return StoredEpisode(
            item.data, _name(item), actions, states, self._texts(part[keys.instruction]), shapes, digest.digest()
        )

    def _picture(self, key: str, item: Listed, digest: Any, last: float) -> tuple[int, int]:
        """Height and width of a camera's pictures; what they are goes into `digest`."""
        size = self.meta.features[key].image_size
        assert size is not None  # `fields` has only those that have one
        video = item.videos.get(key)
        path = self.root / (video.path if video else item.data)
        if not path.is_file():
            raise ValueError(f"no video '{path.relative_to(self.root)}' of {key}")
        digest.update(f"{key} {size} {path.stat().st_size} {video.start if video else item.index}".encode())
        if video is None:
            return size
        if video.path not in self._sizes:
            self._sizes[video.path] = _video_size(path, video.path)
        height, width, frames = self._sizes[video.path]
        if (height, width) != size:
            raise ValueError(f"'{video.path}' is {height}x{width}, the description says {size[0]}x{size[1]}")
        if frames and frames < round((video.start + last) * self.meta.fps) + 1:
            raise ValueError(f"'{video.path}' has {frames} frames, too few for its steps")
        return size

    def _texts(self, values: NDArray[Any]) -> list[tuple[int, str]]:
        """Instructions, and the steps that they begin at."""
        found = []
        for start in stretches(values).tolist():
            value = values[start]
            if values.dtype.kind in "iu":
                if int(value) not in self.meta.tasks:
                    raise ValueError(f"task {int(value)} is not among the tasks in meta/")
                value = self.meta.tasks[int(value)]
            found.append((start, str(value)))
        return found


def _video_size(path: Path, name: str) -> tuple[int, int, int]:
    try:
        return video_size(path)
    except ValueError as error:
        raise ValueError(f"'{name}' {error}") from None


def _name(item: Listed) -> str:
    return f"episode_{item.index:06d}"


def _dimension_names(item: Feature) -> tuple[str, ...]:
    size = int(np.prod(item.shape)) if item.shape else 1
    last = item.key.rpartition(".")[2]
    return item.names if len(item.names) == size else tuple(f"{last} {number}" for number in range(size))


def _values(column: Any, key: str) -> NDArray[Any]:
    """All values of a column of numbers, lists of numbers or texts, flat."""
    pa, compute = import_lerobot("pyarrow"), import_lerobot("pyarrow.compute")
    array = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    while True:
        if array.null_count:
            raise ValueError(f"'{key}' has rows without a value")
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            if compute.count_distinct(compute.list_value_length(array)).as_py() > 1:
                raise ValueError(f"'{key}' has rows of different lengths")
            array = array.flatten()
        elif pa.types.is_fixed_size_list(array.type):
            array = array.flatten()
        else:
            break
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values
