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
from vla.data.rendered_files import MANIFEST
from vla.errors import UserError
from vla.evaluation.conformal import conformal_threshold
from vla.serving.watching.threshold import Threshold, write_threshold
from vla.serving.watching.watcher import Watcher
from vla.training.checkpoint import CONFIG
from vla.training.checkpoint_store import find_checkpoint
from vla.training.evaluate import run_dir_of


def run(config: CalibrateConfig) -> int:
    """Score the held-out frames, and save the threshold in the run's folder; returns exit code 0.

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
    if config.dataset_root is not None:
        dataset = replace(dataset, root=config.dataset_root, image_dir=None)
    about, episodes = read_held_out(dataset)
    scores = [score_episode(watcher, image_folder(dataset), files) for files in episodes.values()]
    value = conformal_threshold(scores, config.false_alarm_rate, config.per)
    frames = sum(map(len, scores))
    threshold = Threshold(
        value, config.false_alarm_rate, config.per, len(scores), frames, about["every"], about["camera"],
        about["image_size"], watcher.fingerprint,
    )  # fmt: skip
    path = write_threshold(run_dir_of(folder), threshold)
    print(
        f"threshold {value:.6g} at a false alarm rate of {config.false_alarm_rate:g} per {config.per}, "
        f"from {frames:,} frames of {len(scores)} normal episodes: {path}"
    )
    return 0


def score_episode(watcher: Watcher, folder: Path, files: list[str]) -> list[float]:
    """Scores of an episode's pictures."""
    frames = []
    for file in files:
        with Image.open(folder / file) as image:
            frames.append(np.asarray(image.convert("RGB")))
    return [verdict.score for verdict in watcher.look(frames)]


def read_held_out(dataset: MVTecADConfig) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What the frames are (`camera`, `image_size`, `every`), and the files of each held-out episode.

    Raises:
        UserError: the folder isn't one that `data.py watch-frames` wrote.
    """
    image_folder(dataset)  # says what is wrong where there is no folder
    assert dataset.root is not None
    episodes: dict[str, list[str]] = defaultdict(list)
    try:
        about = json.loads((dataset.root / MANIFEST).read_text(encoding="utf-8"))
        found = {name: about[name] for name in ("camera", "image_size", "every")}
        with jsonlines.open(dataset.root / dataset.test_meta) as lines:
            for line in lines.iter(type=dict, skip_empty=True):
                episodes[str(line["episode"])].append(str(line["filename"]))
    except (OSError, ValueError, KeyError, TypeError, jsonlines.Error) as error:
        raise UserError(
            f"dataset_root: {dataset.root} holds no frames by episode; name what `data.py watch-frames` wrote"
        ) from error
    return found, dict(episodes)
