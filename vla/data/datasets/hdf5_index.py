"""Finding and checking episodes in LIBERO's HDF5 files, without decoding an image."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from vla.batches import check_instruction
from vla.conf.datasets import LiberoConfig
from vla.conf.registry import suggest
from vla.data.datasets.base import existing_root
from vla.data.datasets.episodes import Episode, Gathering, Scan, aligned_steps, check_finite
from vla.data.datasets.hdf5_links import check_inside, leads_out
from vla.data.datasets.libero_format import (
    ACTION_DIM,
    CAMERA_SUFFIX,
    PROPRIO,
    alignment_of,
    demo_names,
    instruction_of,
    task_name,
)
from vla.data.errors import BadEpisode, one_line
from vla.errors import UserError

CONTENTS = "with the dataset's *.hdf5 files"
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # what h5py raises on damaged files


def find_files(root: Path, tasks: tuple[str, ...]) -> list[Path]:
    """HDF5 files below `root`, sorted by name, those of `tasks` only if any are named.

    Hidden files and folders are left out; a recording that goes on keeps its parts in one.

    Raises:
        ValueError: no file, or none for one of `tasks`.
    """
    found = {path: path.relative_to(root).parts for path in root.rglob("*.hdf5")}
    files = sorted(path for path, parts in found.items() if not any(part.startswith(".") for part in parts))
    if not files:
        raise UserError(f"dataset.root: no *.hdf5 files in {root}")
    known = [task_name(path) for path in files]
    for task in tasks:
        if task not in known:
            hint = suggest(task, known) or f"; there are {', '.join(known[:3])}{', ...' if len(known) > 3 else ''}"
            raise UserError(f"dataset.tasks: no file for '{task}' in {root}{hint}")
    return [path for path, name in zip(files, known, strict=True) if not tasks or name in tasks]


def scan(config: LiberoConfig, cameras: tuple[str, ...], proprio: bool) -> Scan:
    """Read and check the actions, robot states and image shapes of every episode that `config` names.

    Args:
        config: which files, and what to do about bad episodes.
        cameras: that every episode must have.
        proprio: whether the robot state is needed.

    Raises:
        BadEpisode: an episode can't be used, and `config.on_bad_episode` is "error".
        ValueError: no folder, or nothing in it can be used.
    """
    root = existing_root(config.root, CONTENTS)
    gathering = Gathering(root, config.on_bad_episode)
    for path in find_files(root, config.tasks):
        reader = _FileScanner(path, path.relative_to(root).as_posix(), config, cameras, proprio)
        try:
            gathering.add(reader.episodes())
        except BadEpisode as error:
            gathering.add([error])
        except HDF5_ERRORS as error:  # damage that only shows when the file's tree is walked
            gathering.add([BadEpisode(f"{path}: {one_line(error)}")])
    return gathering.scan()


@dataclass(frozen=True)
class _FileScanner:
    path: Path
    name: str
    config: LiberoConfig
    cameras: tuple[str, ...]
    proprio: bool

    def episodes(self) -> Iterator[Episode | BadEpisode]:
        """Every demonstration: the episode, or what is wrong with it. Raises BadEpisode if it is the whole file."""
        try:
            file = h5py.File(self.path, "r")
        except OSError as error:
            raise BadEpisode(f"{self.path}: can't be opened as HDF5: {one_line(error)}") from None
        with file:
            data = file.get("data") if not leads_out(file, "data") else None
            if not isinstance(data, h5py.Group):
                raise BadEpisode(f"{self.path}: no group 'data'")
            demos = demo_names(data)
            if not demos:
                raise BadEpisode(f"{self.path}: no demonstrations (data/demo_<i>)")
            try:
                instruction = check_instruction(
                    instruction_of(data, task_name(self.path), self.config.instruction_source)
                )
            except UserError as error:
                raise BadEpisode(f"{self.path}: {error}") from None
            if not instruction:
                raise BadEpisode(
                    f"{self.path}: no instruction: no language_instruction in the attribute problem_info, and the file "
                    "name spells none"
                )
            yield from self._demos(data, demos, instruction)

    def _demos(self, data: h5py.Group, demos: list[str], instruction: str) -> Iterator[Episode | BadEpisode]:
        alignment = alignment_of(data, self.config.observation_alignment)
        good, limit = 0, self.config.max_episodes_per_task
        for demo in demos:
            if limit is not None and good >= limit:
                return
            try:
                check_inside(data, demo, self._names())
                episode = self._episode(data[demo], demo, instruction, alignment)
            except HDF5_ERRORS as error:
                yield BadEpisode(f"{self.path}: {demo}: {one_line(error)}")
            else:
                good += 1
                yield episode

    def _names(self) -> list[str]:
        """Of everything that is read of a demonstration."""
        names = [self.config.action_source, "actions", "states", *(f"obs/{key}" for key in PROPRIO if self.proprio)]
        return [*names, *(f"obs/{camera}{CAMERA_SUFFIX}" for camera in self.cameras)]

    def _episode(self, group: h5py.Group, demo: str, instruction: str, alignment: str) -> Episode:
        actions = _finite(group, self.config.action_source, ACTION_DIM)
        total = len(actions)
        if total == 0:
            raise ValueError("has no steps")
        shapes = {self._image_shape(group, camera, total) for camera in self.cameras}
        if len(shapes) > 1:
            raise ValueError(f"cameras have images of different sizes: {sorted(shapes)}")
        states = [_finite(group, f"obs/{key}", size, total) for key, size in PROPRIO.items() if self.proprio]
        first = int(group.attrs.get("learn_from", 0))  # before it a mistake was made on purpose
        steps, rows = aligned_steps(actions, self.config.filter_noops, alignment, first)
        return Episode(
            file=self.name, demo=demo, task=task_name(self.path), instruction=instruction, alignment=alignment,
            image_shape=shapes.pop(), rows=rows, actions=actions[steps],
            proprio=np.concatenate(states, axis=1)[rows] if states else None,
            content=self._content(group, rows),
        )  # fmt: skip

    def _content(self, group: h5py.Group, rows: NDArray[np.int32]) -> str:
        """Hash of which frames of what; instead of the frames themselves, of what happened and of their stored size."""
        digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes())
        digest.update(np.ascontiguousarray(group["actions"][()]).tobytes())
        if "states" in group:
            digest.update(np.ascontiguousarray(group["states"][()]).tobytes())
        for camera in self.cameras:
            images = group[f"obs/{camera}{CAMERA_SUFFIX}"]
            digest.update(f"{camera} {images.shape} {images.id.get_storage_size()}".encode())
        return digest.hexdigest()[:24]

    def _image_shape(self, group: h5py.Group, camera: str, total: int) -> tuple[int, int]:
        name = f"obs/{camera}{CAMERA_SUFFIX}"
        observations = group.get("obs")
        present = [] if observations is None else [k for k in observations if k.endswith(CAMERA_SUFFIX)]
        if f"{camera}{CAMERA_SUFFIX}" not in present:
            there = ", ".join(key.removesuffix(CAMERA_SUFFIX) for key in present) or "none"
            raise ValueError(f"no camera '{camera}' ('{name}'); cameras there: {there}")
        images = group[name]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"'{name}' must be uint8 [T, H, W, 3], got {images.dtype} {list(images.shape)}")
        if len(images) != total:
            raise ValueError(f"'{name}' has {len(images)} steps, actions have {total}")
        return images.shape[1], images.shape[2]


def _finite(group: h5py.Group, name: str, size: int, total: int | None = None) -> NDArray[np.float32]:
    """The dataset `name` as float32 [T, size], checked. Raises ValueError, without file and demo."""
    if name not in group:
        raise ValueError(f"no '{name}'")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 2 or dataset.shape[1] != size:
        raise ValueError(f"'{name}' must be [T, {size}], got {list(getattr(dataset, 'shape', ()))}")
    if total is not None and len(dataset) != total:
        raise ValueError(f"'{name}' has {len(dataset)} steps, actions have {total}")
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"'{name}' must be numbers, got {dataset.dtype}")
    return check_finite(dataset[()].astype(np.float32), name)
