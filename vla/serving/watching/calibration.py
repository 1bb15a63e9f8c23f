"""From held-out normal episodes to a watcher's threshold (scripts/evaluate.py --checkpoint RUN --false_alarm_rate)."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonlines
import numpy as np
import torch
from PIL import Image

from vla.conf import cli
from vla.conf.datasets import MVTecADConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.watching import CalibrateConfig
from vla.data.anomaly.index import image_folder
from vla.data.errors import one_line
from vla.data.pictures import UNREADABLE
from vla.data.rendered_files import MANIFEST
from vla.errors import UserError
from vla.evaluation.conformal import conformal_threshold, episodes_needed
from vla.serving.watching.threshold import Threshold, Usual, write_threshold
from vla.serving.watching.watcher import Watcher
from vla.training.checkpoint import CONFIG
from vla.training.checkpoint_store import find_checkpoint
from vla.training.evaluate import run_dir_of


def run(config: CalibrateConfig) -> int:
    """Learn from the training frames what maps usually are, score the held-out ones, and save the threshold.

    It is written into the run's folder. Held-out episodes have no part in what is usual. Returns exit code 0.

    Raises:
        UserError: there is no checkpoint of an anomaly detector, no frames by episode, or too few episodes.
    """
    assert config.checkpoint is not None
    device = "cuda" if config.device == "auto" and torch.cuda.is_available() else config.device.replace("auto", "cpu")
    folder = find_checkpoint(config.checkpoint, prefer="best")
    watcher = Watcher.load(folder, device, calibrated=False)
    dataset = cli.load(PretrainConfig, folder / CONFIG).dataset
    if not isinstance(dataset, MVTecADConfig):
        raise UserError("dataset_root: must name what `data.py watch-frames` wrote")
    own = dataset
    if config.dataset_root is not None:
        dataset = replace(dataset, root=config.dataset_root, image_dir=None)
    about, episodes = read_episodes(dataset, dataset.test_meta)
    if len(episodes) < episodes_needed(config.false_alarm_rate):  # before minutes of looking
        _threshold([[0.0]] * len(episodes), config)
    watcher.usual = learn_usual(watcher, dataset, own)
    scores = [score_episode(watcher, image_folder(dataset), files) for files in episodes.values()]
    value = _threshold(scores, config)
    frames = sum(map(len, scores))
    threshold = Threshold(
        value, config.false_alarm_rate, config.per, len(scores), frames, about["every"], about["camera"],
        about["image_size"], watcher.fingerprint, watcher.usual,
    )  # fmt: skip
    path = write_threshold(run_dir_of(folder), threshold)
    print(
        f"threshold {value:.6g} at a false alarm rate of {config.false_alarm_rate:g} per {config.per}, "
        f"from {frames:,} frames of {len(scores)} normal episodes: {path}"
    )
    return 0


def _threshold(scores: list[list[float]], config: CalibrateConfig) -> float:
    try:
        return conformal_threshold(scores, config.false_alarm_rate, config.per)
    except ValueError as error:
        raise UserError(str(error)) from error


def score_episode(watcher: Watcher, folder: Path, files: list[str]) -> list[float]:
    """Scores of an episode's pictures."""
    return [verdict.score for verdict in watcher.look(_frames(folder, files))]


def learn_usual(watcher: Watcher, dataset: MVTecADConfig, own: MVTecADConfig) -> Usual:
    """What maps usually are in the training episodes: of `dataset`, or where it has none, of the run's `own` data.

    Raises:
        UserError: neither is here, or the run's own are frames of another camera or size than those to be scored.
    """
    wanted = read_episodes(dataset, dataset.test_meta)[0]
    for data in (dataset, own):
        found, episodes = read_episodes(data, data.train_meta)
        if episodes:
            if any(found[name] != wanted[name] for name in ("camera", "image_size")):
                raise UserError(
                    f"dataset_root: holds {wanted['image_size']}-pixel frames of {wanted['camera']}; those trained on, "
                    f"by which scores are measured, are {found['image_size']}-pixel ones of {found['camera']}"
                )
            folder = image_folder(data)
            return Usual.of(np.concatenate([watcher.places(_frames(folder, files)) for files in episodes.values()]))
    raise UserError(f"dataset_root: {own.root} has no training frames, by which scores are measured")


def _frames(folder: Path, files: list[str]) -> list[np.ndarray]:
    frames = []
    for file in files:
        try:
            with Image.open(folder / file) as image:
                frames.append(np.asarray(image.convert("RGB")))
        except UNREADABLE as error:
            raise UserError(f"{folder / file}: can't be read: {one_line(error)}") from error
    return frames


def read_episodes(dataset: MVTecADConfig, meta: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What the frames are (`camera`, `image_size`, `every`), and the files of each episode of a meta file.

    Raises:
        UserError: the folder isn't one that `data.py watch-frames` wrote.
    """
    image_folder(dataset)  # says what is wrong where there is no folder
    assert dataset.root is not None
    episodes: dict[str, list[str]] = defaultdict(list)
    try:
        about = json.loads((dataset.root / MANIFEST).read_text(encoding="utf-8"))
        found = {name: about[name] for name in ("camera", "image_size", "every")}
        with jsonlines.open(dataset.root / meta) as lines:
            for line in lines.iter(type=dict, skip_empty=True):
                episodes[str(line["episode"])].append(str(line["filename"]))
    except (OSError, ValueError, KeyError, TypeError, jsonlines.Error) as error:
        raise UserError(
            f"dataset_root: {dataset.root} holds no frames by episode; name what `data.py watch-frames` wrote"
        ) from error
    return found, dict(episodes)
