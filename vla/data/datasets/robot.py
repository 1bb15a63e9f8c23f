"""LeRobotDataset and RLDSDataset: demonstrations of any robot as windows, with conventions that somebody stated."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla.conf.models import ActionModelConfig
from vla.conf.robot_datasets import RLDSConfig, RobotDataConfig
from vla.data.collators import ActionCollator
from vla.data.conventions import Conventions
from vla.data.datasets.base import Datasets, existing_root, warn_of_skipped
from vla.data.datasets.episodes import (
    Episode,
    Gathering,
    Scan,
    aligned_steps,
    check_finite,
    split_episodes,
    training_statistics,
)
from vla.data.datasets.presets import with_preset
from vla.data.datasets.robot_files import Keys, RobotFiles, StoredEpisode, clean_text
from vla.data.datasets.robot_meaning import choose_keys, conventions_of, describe
from vla.data.datasets.windows import EpisodeDataset
from vla.data.errors import BadEpisode, one_line
from vla.data.processor import Processor
from vla.data.rlds import binarize_gripper, relative_to_absolute_gripper
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)


class RobotDataset(EpisodeDataset):
    """Windows of demonstrations in a public layout; see `EpisodeDataset`. Subclasses open the files."""

    @staticmethod
    def open_files(root: Path) -> RobotFiles:
        """The dataset in `root`, its description checked."""
        raise NotImplementedError

    @classmethod
    def build(cls, config: RobotDataConfig, model_config: ActionModelConfig, processor: Processor | None) -> Datasets:
        """Open the data of `config`; see `vla.data.datasets.base.Datasets` for the contract and the errors."""
        wanted = processor.config if processor else model_config.processor
        files = cls.open_files(existing_root(config.root, "of the dataset"))
        settings, preset_fps = with_preset(config)
        keys = choose_keys(settings, files.fields, wanted.cameras, wanted.proprio)
        meaning = conventions_of(settings, files.fields, keys, preset_fps)
        if len(meaning.action_names) != wanted.action_dim:
            raise UserError(
                f"model.processor.action_dim: the actions of {', '.join(keys.actions)} have "
                f"{len(meaning.action_names)} dimensions, got {wanted.action_dim}"
            )
        if wanted.proprio and len(meaning.proprio_names) != model_config.state_dim:
            raise UserError(
                f"model.processor.proprio_dim: the states of {', '.join(keys.states)} have "
                f"{len(meaning.proprio_names)} dimensions, got {model_config.state_dim}"
            )
        train, held_out, found = read_splits(files, settings, keys, meaning)
        if processor is None:
            statistics = training_statistics(train, files.root, _what_statistics_depend_on(settings, keys))
            seen = replace(meaning, image_shape=train[0].image_shape)
            processor = Processor(wanted, model_config.chunk_size, statistics, seen)
        frames, cache = dict(zip(wanted.cameras, keys.cameras, strict=True)), settings.frame_cache_mb * 2**20
        source = files.frames(frames, cache)
        training = cls(train, source, processor, meaning, found.skipped, wanted.augmentation)
        validation = None
        if held_out:
            validation = cls(held_out, files.frames(frames, cache), processor, meaning, found.skipped)
        overwatch.info(describe(type(config).dataset_id, files, settings, keys, meaning, frames))
        _report(config, found, training, validation)
        return Datasets(train=training, validation=validation, collator=ActionCollator(), processor=processor)


class LeRobotDataset(RobotDataset):
    """Windows of a dataset in LeRobot's layout, v2.0, v2.1 or v3.0."""

    @staticmethod
    def open_files(root: Path) -> RobotFiles:
        """See `RobotDataset`."""
        from vla.data.datasets.lerobot_files import LeRobotFiles

        return LeRobotFiles(root)


class RLDSDataset(RobotDataset):
    """Windows of a dataset in RLDS."""

    @staticmethod
    def open_files(root: Path) -> RobotFiles:
        """See `RobotDataset`."""
        from vla.data.datasets.rlds_files import RLDSFiles

        return RLDSFiles(root)


def read_splits(
    files: RobotFiles, config: RobotDataConfig, keys: Keys, meaning: Conventions
) -> tuple[list[Episode], list[Episode], Scan]:
    """Training and held-out episodes, and the scan of both."""
    split = config.split if isinstance(config, RLDSConfig) else None
    train = scan_files(files, config, keys, meaning, split)
    if not isinstance(config, RLDSConfig) or config.validation_split is None:
        return *split_episodes(train.episodes, config.validation_episodes, strict=False), train
    held_out = scan_files(files, config, keys, meaning, config.validation_split)
    both = Scan(train.episodes + held_out.episodes, train.skipped + held_out.skipped)
    return train.episodes, held_out.episodes, both


def scan_files(
    files: RobotFiles, config: RobotDataConfig, keys: Keys, meaning: Conventions, split: str | None = None
) -> Scan:
    """Read and check the actions, robot states and instructions of every episode.

    Args:
        files: the dataset.
        config: what to do about bad episodes, and which are wanted.
        keys: which fields are read.
        meaning: says when observations were taken.
        split: of RLDS.

    Raises:
        BadEpisode: an episode can't be used, and `config.on_bad_episode` is "error".
        UserError: nothing can be used.
    """
    gathering = Gathering(files.root, config.on_bad_episode)
    count: Counter[str] = Counter()
    for stored in files.episodes(keys, split):
        found = [stored] if isinstance(stored, BadEpisode) else list(_parts(stored, files.root, config, keys, meaning))
        for item in found:
            if isinstance(item, Episode):
                count[item.task] += 1
                if config.max_episodes_per_task is not None and count[item.task] > config.max_episodes_per_task:
                    continue
            gathering.add([item])
    return gathering.scan()


def _parts(
    stored: StoredEpisode, root: Path, config: RobotDataConfig, keys: Keys, meaning: Conventions
) -> Iterator[Episode | BadEpisode]:
    """An episode for each instruction that is given in a stored one, most often one."""
    where = f"{root / stored.file}: {stored.name}"
    try:
        shapes = {stored.shapes[key] for key in keys.cameras}
        if len(shapes) > 1:
            raise ValueError(f"cameras have images of different sizes: {sorted(shapes)}; see --dataset.cameras")
        actions = _checked(stored.actions, "actions", len(meaning.action_names))
        states = None if stored.states is None else _checked(stored.states, "states", len(meaning.proprio_names))
        actions = _with_gripper(actions, config.conventions.gripper, config.skip_first_steps)
        alignment = config.conventions.observation_alignment
        steps, rows = aligned_steps(actions, config.filter_noops, alignment, config.skip_first_steps)
    except ValueError as error:
        yield BadEpisode(f"{where}: {one_line(error)}")
        return
    ends = [start for start, _ in stored.texts[1:]] + [len(actions)]
    for (start, text), end in zip(stored.texts, ends, strict=True):
        inside = (steps >= start) & (steps < end)
        name = stored.name if len(stored.texts) == 1 else f"{stored.name}[{start}:{end}]"
        if not inside.any():
            continue  # an instruction for steps that are left out
        try:
            instruction = clean_text(text)
        except ValueError as error:
            yield BadEpisode(f"{root / stored.file}: {name}: {one_line(error)}")
            continue
        seen = rows[inside]
        digest = hashlib.sha256(stored.content + "|".join(keys.cameras).encode() + np.ascontiguousarray(seen).tobytes())
        yield Episode(
            file=stored.file, demo=name, task=instruction, instruction=instruction, alignment=alignment,
            image_shape=next(iter(shapes)), rows=seen, actions=actions[steps[inside]],
            proprio=None if states is None else states[seen], content=digest.hexdigest()[:24],
        )  # fmt: skip


def _checked(values: NDArray[np.float32], name: str, size: int) -> NDArray[np.float32]:
    if values.shape[1] != size:
        raise ValueError(f"{name} have {values.shape[1]} dimensions, expected {size}")
    return check_finite(values, name)


def _with_gripper(actions: NDArray[np.float32], kind: str, first: int) -> NDArray[np.float32]:
    """Actions [T, A] with the gripper's commands, from step `first` on, made absolute and decided."""
    if kind == "as_stored" or len(actions) <= first:
        return actions
    change = binarize_gripper if kind == "binarize" else relative_to_absolute_gripper
    actions = actions.copy()
    actions[first:, -1] = change(actions[first:, -1])
    return actions


def _what_statistics_depend_on(config: RobotDataConfig, keys: Keys) -> dict[str, object]:
    return {
        "filter_noops": config.filter_noops, "actions": keys.actions, "states": keys.states,
        "gripper": config.conventions.gripper, "skip_first_steps": config.skip_first_steps,
    }  # fmt: skip


def _report(config: RobotDataConfig, found: Scan, train: EpisodeDataset, validation: EpisodeDataset | None) -> None:
    tasks = len({episode.task for episode in found.episodes})
    held_out = f"{len(validation.episodes)} episodes, {len(validation):,} samples" if validation else "none"
    overwatch.info(
        f"{type(config).dataset_id}: {len(train.episodes)} episodes, {len(train):,} samples of {tasks} instructions; "
        f"held out: {held_out}"
    )
    warn_of_skipped(config.root, "episodes or files", found.skipped)
