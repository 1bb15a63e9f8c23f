"""What `meta/` of a dataset in LeRobot's layout says: fields, tasks, and where each episode's steps and frames lie.

v2.0 and v2.1: `meta/{info.json, episodes.jsonl, tasks.jsonl}`, a parquet file and a video per camera for each episode.
v3.0: `meta/{info.json, tasks.parquet, episodes/chunk-*/file-*.parquet}`, files that hold many episodes.
"""

import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vla.conf.json_files import read_json_object
from vla.data.datasets.optional import import_lerobot
from vla.data.errors import one_line
from vla.errors import UserError

_ERRORS = (  # of damaged JSON and parquet files
    KeyError, TypeError, ValueError, AttributeError, OSError, IndexError, RecursionError, OverflowError, MemoryError,
    NotImplementedError,
)  # fmt: skip
VERSIONS = ("v2.0", "v2.1", "v3.0")
INFO = "meta/info.json"
_LISTS = {"v2.0": "meta/episodes.jsonl", "v2.1": "meta/episodes.jsonl", "v3.0": "meta/episodes"}
_SPEC = re.compile(r"^(0\d)?d?$")  # of a number in a path: "03d"
_MOST_LINES = 10_000_000


@dataclass(frozen=True)
class Feature:
    """A column, or a camera that lies in videos."""

    key: str
    dtype: str  # image | video | float32 | int64 | string | ...
    shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of a picture in three colours; None: it is something else."""
        if self.dtype not in ("image", "video") or len(self.shape) != 3:
            return None
        if self.shape[2] == 3:
            return self.shape[0], self.shape[1]
        return (self.shape[1], self.shape[2]) if self.shape[0] == 3 else None


@dataclass(frozen=True)
class Video:
    """Where an episode's frames of a camera begin."""

    path: str  # below the root
    start: float  # seconds


@dataclass(frozen=True)
class Listed:
    """An episode, as the description has it."""

    index: int
    length: int
    data: str  # parquet file below the root
    videos: dict[str, Video] = field(default_factory=dict)  # by key of the camera


@dataclass(frozen=True)
class Meta:
    """The whole description."""

    root: Path
    version: str
    fps: float
    features: dict[str, Feature]
    tasks: dict[int, str]
    totals: dict[str, int]  # episodes, frames; what it says that there are
    episodes: list[Listed]


def read_meta(root: Path) -> Meta:
    """Read and check `meta/`.

    Raises:
        UserError: it is not there, of a version that is not known, or damaged; one line.
    """
    info = _json(root / INFO, "no dataset in LeRobot's layout")
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise UserError(
            f"{root / INFO}: codebase_version: must be one of {', '.join(VERSIONS)}, got {version!r}; LeRobot's own "
            "tools convert older datasets"
        )
    try:
        features = {key: _feature(key, value) for key, value in info["features"].items()}
        fps = float(info["fps"])
        totals = {name: int(info[f"total_{name}"]) for name in ("episodes", "frames") if f"total_{name}" in info}
        videos = [key for key, item in features.items() if item.dtype == "video"]
        paths = (str(info["data_path"]), str(info.get("video_path")), int(info.get("chunks_size") or 1000))
        if not fps > 0 or paths[2] <= 0:
            raise ValueError("fps and chunks_size must be > 0")
        read = _list_v3 if version == "v3.0" else _list_v2
        episodes = sorted(read(root, paths, videos), key=lambda item: item.index)
        tasks = _tasks_v3(root) if version == "v3.0" else _tasks_v2(root)
    except UserError:
        raise
    except _ERRORS as error:
        what = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise UserError(f"{root / 'meta'}: not a description of LeRobot's {version} layout ({what})") from None
    if len({item.index for item in episodes}) != len(episodes):
        raise UserError(f"{root / _LISTS[version]}: an episode is listed twice")
    return Meta(root, version, fps, features, tasks, totals, episodes)


def _feature(key: str, value: dict[str, Any]) -> Feature:
    shape = tuple(int(size) for size in value.get("shape") or (1,))
    return Feature(key, str(value["dtype"]), shape, tuple(_flat(value.get("names"))))


def _flat(names: Any) -> Iterator[str]:
    """Names that may lie in lists of lists, or in a dict of lists."""
    if isinstance(names, dict):
        names = list(names.values()) if all(isinstance(v, list | dict) for v in names.values()) else list(names)
    for name in names if isinstance(names, list) else [] if names is None else [names]:
        if isinstance(name, list | dict):
            yield from _flat(name)
        else:
            yield str(name)


def _list_v2(root: Path, paths: tuple[str, str, int], videos: list[str]) -> Iterator[Listed]:
    data_path, video_path, chunk_size = paths
    for row in _json_lines(root / "meta/episodes.jsonl"):
        index, length = int(row["episode_index"]), int(row["length"])
        values = {"episode_chunk": index // chunk_size, "episode_index": index}
        places = {key: Video(fill(video_path, {**values, "video_key": key}), 0.0) for key in videos}
        yield Listed(index, length, fill(data_path, values), places)


def _tasks_v2(root: Path) -> dict[int, str]:
    return {int(row["task_index"]): str(row["task"]) for row in _json_lines(root / "meta/tasks.jsonl")}


def _list_v3(root: Path, paths: tuple[str, str, int], videos: list[str]) -> Iterator[Listed]:
    parquet = import_lerobot("pyarrow.parquet")
    data_path, video_path, _ = paths
    files = sorted((root / "meta/episodes").glob("*/*.parquet"))
    if not files:
        raise ValueError("no meta/episodes/chunk-*/file-*.parquet")
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    columns += [f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index", "from_timestamp")]
    for file in files:
        known = parquet.read_schema(file).names
        lacking = [name for name in columns if name not in known]
        if lacking:
            raise ValueError(f"{file.name} has no column {lacking[0]}")
        for row in parquet.read_table(file, columns=columns).to_pylist():
            places = {}
            for key in videos:
                at = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
                path = fill(video_path, {**at, "video_key": key})
                places[key] = Video(path, float(row[f"videos/{key}/from_timestamp"]))
            place = {name: int(row[f"data/{name}"]) for name in ("chunk_index", "file_index")}
            yield Listed(int(row["episode_index"]), int(row["length"]), fill(data_path, place), places)


def _tasks_v3(root: Path) -> dict[int, str]:
    parquet = import_lerobot("pyarrow.parquet")
    table = parquet.read_table(root / "meta/tasks.parquet")
    texts = next((name for name in table.column_names if name != "task_index"), None)  # the index of a data frame
    if texts is None:
        raise ValueError("meta/tasks.parquet has no column with the texts of tasks")
    numbers = table.column("task_index").to_pylist()
    return {int(number): str(text) for number, text in zip(numbers, table.column(texts).to_pylist(), strict=True)}


def fill(template: str, values: dict[str, Any]) -> str:
    """A path below the root out of a template such as `data/chunk-{episode_chunk:03d}/file-{file_index:03d}.parquet`.

    Raises:
        ValueError: it asks for something else than `values`, or leads out of the root.
    """
    parts = []
    for text, name, spec, conversion in string.Formatter().parse(template):
        parts.append(text)
        if name is None:
            continue
        if name not in values or conversion or not _SPEC.match(spec or ""):
            raise ValueError(f"path {template!r} asks for {name!r}")
        parts.append(format(values[name], spec or ""))
    return inside("".join(parts))


def inside(path: str) -> str:
    """`path` itself, relative, which doesn't lead out of the folder that it is below.

    Raises:
        ValueError: it does.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or ":" in pure.parts[0]:
        raise ValueError(f"path {path[:80]!r} leads out of the dataset")
    return path


def _json(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"dataset.root: {otherwise}: {path} is not there")
    return read_json_object(path)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            if number >= _MOST_LINES:
                raise ValueError(f"{path.name} has more than {_MOST_LINES} lines")
            if line.strip():
                yield json.loads(line)
