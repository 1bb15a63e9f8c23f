"""Demonstrations in LeRobot's layout or in RLDS, for `vla data doctor`: nothing about them has to be stated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla.conf.datasets import LeRobotConfig, RLDSConfig
from vla.conf.inspection import InspectConfig
from vla.conf.robot_datasets import RobotDataConfig
from vla.data.conventions import LIBERO_CONVENTIONS, Conventions
from vla.data.datasets.lerobot_meta import INFO
from vla.data.datasets.presets import with_preset
from vla.data.datasets.rlds_format import FEATURES
from vla.data.datasets.robot import LeRobotDataset, RLDSDataset, scan_files
from vla.data.datasets.robot_files import Keys, RobotFiles, StoredEpisode
from vla.data.datasets.robot_meaning import choose_keys
from vla.data.errors import BadEpisode
from vla.data.inspection.raw import RawData, RawEpisode
from vla.errors import UserError

Layout = type[LeRobotConfig] | type[RLDSConfig]
_PRESETS = {"bridge_orig": "bridge-orig", "fractal20220817_data": "fractal"}  # by the name that a dataset gives itself
_CACHE = 256 * 2**20
_FINGERS = ("gripper", "finger")  # in names of the state's dimensions


def robot_layout(path: Path) -> Layout | None:
    """The dataset that a folder is in the layout of; None: neither."""
    if (path / INFO).is_file():
        return LeRobotConfig
    return RLDSConfig if (path / FEATURES).is_file() or any(path.glob(f"*/{FEATURES}")) else None


def read_robot(layout: Layout, config: InspectConfig) -> RawData:
    """Read the numbers of every episode, and the shapes of its pictures.

    Raises:
        UserError: the description is damaged, its fields can't be told apart, or no episode can be read.
    """
    assert config.path is not None
    opener = LeRobotDataset if layout is LeRobotConfig else RLDSDataset
    files = opener.open_files(config.path.expanduser())
    settings = _settings(layout, files, config)
    keys = _keys(settings, files)
    frames = files.frames({key: key for key in keys.cameras}, _CACHE)
    title = f"{getattr(files, 'name', '') or files.root.resolve().name} ({files.layout})"
    data = RawData(files.root, [], layout=files.layout, title=title, action_names=_names(files, keys.actions))
    state_names = _names(files, keys.states)
    for found in files.episodes(keys):
        if isinstance(found, BadEpisode):
            data.unreadable.append(str(found))
            continue
        data.episodes.append(replace(_raw(files.root, found, state_names), source=frames))
        data.instructions.setdefault(found.texts[0][1], found.texts[0][1])
    if not data.episodes:
        first = f": {data.unreadable[0]}" if data.unreadable else ""
        raise UserError(f"path: no episode in {files.root} can be read{first}")
    data.files.extend(dict.fromkeys(episode.path for episode in data.episodes))
    data.claims.extend(files.claims)
    data.read_as_training = lambda: scan_files(files, settings, _of_one_size(keys, data), _meaning(data, state_names))
    return data


def _settings(
    layout: type[LeRobotConfig] | type[RLDSConfig], files: RobotFiles, config: InspectConfig
) -> RobotDataConfig:
    """Names of fields as they were given, or as they are known for a dataset of this name."""
    settings: RobotDataConfig = layout(
        root=files.root, preset=_PRESETS.get(getattr(files, "name", "")), on_bad_episode="skip",
        action_keys=config.action_keys, state_keys=config.state_keys, instruction_key=config.instruction_key,
    )  # fmt: skip
    return replace(with_preset(settings)[0], cameras=(), skip_first_steps=0)


def _keys(settings: RobotDataConfig, files: RobotFiles) -> Keys:
    """All cameras, and the state where there is one."""
    cameras = tuple(files.fields.images)
    if not cameras:
        raise UserError(f"path: {files.root} has no pictures in three colours")
    try:
        return choose_keys(settings, files.fields, cameras, proprio=True)
    except UserError as error:
        if settings.state_keys or "state_keys" not in str(error):
            raise UserError(str(error).replace("dataset.", "", 1)) from None
        return choose_keys(settings, files.fields, cameras, proprio=False)


def _names(files: RobotFiles, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for key in keys for name in files.fields.numbers[key])


def _raw(root: Path, found: StoredEpisode, state_names: tuple[str, ...]) -> RawEpisode:
    frames: dict[str, tuple[int, ...]] = {key: (len(found.actions), *size, 3) for key, size in found.shapes.items()}
    states: dict[str, NDArray[np.float64]] = {}
    if found.states is not None:
        states["state"] = found.states.astype(np.float64)
        fingers = [n for n, name in enumerate(state_names) if any(word in name.lower() for word in _FINGERS)]
        if not fingers and len(state_names) == len(LIBERO_CONVENTIONS.proprio_names):
            fingers = [len(state_names) - 2, len(state_names) - 1]  # a hand's pose, and two fingers
        if fingers:
            states["gripper_states"] = states["state"][:, fingers]
    actions = found.actions.astype(np.float64)
    return RawEpisode(root / found.file, found.name, found.texts[0][1], actions, states, frames, None, None)


def _of_one_size(keys: Keys, data: RawData) -> Keys:
    """Without cameras whose pictures are of another size than the first one's: training takes those of one size."""
    sizes = {key: shape[1:] for key, shape in data.episodes[0].frames.items()}
    return replace(keys, cameras=tuple(key for key in keys.cameras if sizes[key] == sizes[keys.cameras[0]]))


def _meaning(data: RawData, state_names: tuple[str, ...]) -> Conventions:
    """Of numbers that are only counted."""
    return replace(LIBERO_CONVENTIONS, action_names=data.action_names, proprio_names=state_names)
