"""Demonstrations as they are in the files: read without the dataset's checks, which leave the bad ones out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vla.data.conventions import LIBERO_CONVENTIONS
from vla.data.datasets.episodes import FrameSource, Scan
from vla.data.datasets.hdf5_index import HDF5_ERRORS, find_files
from vla.data.datasets.hdf5_links import check_inside, leads_out
from vla.data.datasets.libero_format import CAMERA_SUFFIX, PROPRIO, demo_names, instruction_of, task_name
from vla.data.errors import one_line
from vla.errors import UserError

LIBERO = "LIBERO"
_READ = ["actions", "rewards", *(f"obs/{key}" for key in PROPRIO)]  # of a demonstration, besides its pictures


@dataclass(frozen=True, eq=False)
class RawEpisode:
    """What one demonstration holds, whatever it is worth."""

    path: Path
    demo: str
    task: str
    actions: NDArray[np.float64]  # [T, A]
    states: dict[str, NDArray[np.float64]]  # [T, D]; in LIBERO's layout ee_pos, ee_ori, gripper_states, if there
    frames: dict[str, tuple[int, ...]]  # camera -> shape [T, H, W, 3] of its pictures
    num_samples: int | None  # what the demonstration says about itself
    reward: float | None  # of its last step
    source: FrameSource | None = None  # of its pictures; None: they lie in a file of LIBERO's layout

    @property
    def label(self) -> str:
        """For people: "put_the_bowl_demo.hdf5 demo_3"."""
        return f"{self.path.name} {self.demo}"


@dataclass(eq=False)
class RawData:
    """Everything below a folder, and what could not be read."""

    root: Path
    files: list[Path]
    episodes: list[RawEpisode] = field(default_factory=list)
    instructions: dict[str, str] = field(default_factory=dict)  # by task
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the group `data`, by task
    unreadable: list[str] = field(default_factory=list)  # a line each
    action_names: tuple[str, ...] = LIBERO_CONVENTIONS.action_names
    layout: str = LIBERO
    title: str = ""  # of the contact sheet; empty: the folder's name
    read_as_training: Callable[[], Scan] | None = None  # of other layouts; it raises UserError
    claims: list[str] = field(default_factory=list)  # what a description says wrongly, a line each

    @property
    def cameras(self) -> list[str]:
        """Of any episode, in order of appearance."""
        return list(dict.fromkeys(camera for episode in self.episodes for camera in episode.frames))

    def actions(self) -> NDArray[np.float64]:
        """Of all episodes [N, A]; of those with the most frequent width."""
        widths = [episode.actions.shape[1] for episode in self.episodes]
        width = max(set(widths), key=widths.count)
        return np.concatenate([item.actions for item in self.episodes if item.actions.shape[1] == width])


def read_raw(path: Path) -> RawData:
    """Read the numbers of every demonstration, and the shapes of its pictures.

    Args:
        path: a folder, or one file.

    Raises:
        UserError: there is nothing in LIBERO's layout.
    """
    path = path.expanduser()
    if not path.exists():
        raise UserError(f"path: no such file or folder: {path}")
    try:
        files = find_files(path, ()) if path.is_dir() else [path]
    except UserError:
        raise UserError(
            "path: must hold demonstrations in LIBERO's layout (*.hdf5 with data/demo_<i>), LeRobot's (meta/info.json) "
            f"or RLDS (features.json), found no *.hdf5 in {path}"
        ) from None
    data = RawData(path if path.is_dir() else path.parent, files)
    for file in files:
        try:
            with h5py.File(file, "r") as opened:
                _read_file(file, opened, data)
        except HDF5_ERRORS as error:
            data.unreadable.append(f"{file.name}: {one_line(error)}")
    if not data.episodes:
        first = f": {data.unreadable[0]}" if data.unreadable else ""
        raise UserError(f"path: no demonstration in {path} can be read{first}")
    return data


def _read_file(path: Path, file: h5py.File, data: RawData) -> None:
    group = None if leads_out(file, "data") else file.get("data")
    names = demo_names(group) if isinstance(group, h5py.Group) else []
    if not isinstance(group, h5py.Group) or not names:
        data.unreadable.append(f"{path.name}: no demonstrations (data/demo_<i>)")
        return
    task = task_name(path)
    data.instructions[task] = instruction_of(group, task, "problem_info")
    data.attributes[task] = dict(group.attrs)
    for name in names:
        try:
            check_inside(group, name, _READ)
            data.episodes.append(_read_demo(path, task, name, group[name]))
        except HDF5_ERRORS as error:
            data.unreadable.append(f"{path.name} {name}: {one_line(error)}")


def _read_demo(path: Path, task: str, name: str, group: h5py.Group) -> RawEpisode:
    actions = np.asarray(group["actions"][()], dtype=np.float64)
    if actions.ndim != 2 or not len(actions):
        raise ValueError(f"'actions' must be [T, 7] with T > 0, got {list(actions.shape)}")
    observations = group.get("obs") or {}
    cameras = [key for key in observations if key.endswith(CAMERA_SUFFIX)]
    check_inside(group, "obs", cameras)
    states = {key: np.asarray(observations[key][()], dtype=np.float64) for key in PROPRIO if key in observations}
    frames = {key.removesuffix(CAMERA_SUFFIX): observations[key].shape for key in cameras}
    claimed = group.attrs.get("num_samples")
    reward = float(group["rewards"][-1]) if "rewards" in group and len(group["rewards"]) else None
    return RawEpisode(
        path, name, task, actions, states, frames, None if claimed is None else int(claimed), reward
    )  # fmt: skip


def read_frames(episode: RawEpisode, camera: str) -> NDArray[np.uint8]:
    """The pictures [T, H, W, 3] of a camera, as stored.

    Raises:
        BadEpisode: they can't be read.
    """
    if episode.source is not None:
        pictures = np.empty(episode.frames[camera], dtype=np.uint8)
        file = episode.path.relative_to(episode.source.root).as_posix()
        episode.source.read(file, episode.demo, camera, range(len(pictures)), pictures)
        return pictures
    with h5py.File(episode.path, "r") as file:
        frames: NDArray[np.uint8] = file[f"data/{episode.demo}/obs/{camera}{CAMERA_SUFFIX}"][()]
    return frames
