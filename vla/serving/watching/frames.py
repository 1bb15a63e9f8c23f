"""What a watcher learns from: frames of normal episodes, as it will see them (scripts/data.py watch-frames)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vla.conf.datasets import LiberoConfig
from vla.conf.watching import WatchFramesConfig
from vla.data.anomaly.index import GOOD
from vla.data.datasets.hdf5_index import scan
from vla.data.datasets.libero_format import CAMERA_SUFFIX
from vla.data.rendered_files import claim_folder, write_png, write_text
from vla.errors import UserError
from vla.evaluation.simulator.libero_env import upright
from vla.serving.watching.again import play_again

FORMAT = 1


@dataclass(frozen=True)
class NormalEpisode:
    """Frames of one episode.

    Attributes:
        task: its name, which becomes the class of its pictures.
        name: that no other episode of the task has; letters, digits, dots and dashes.
        steps: control step of each frame.
        frames: uint8 [n, H, W, 3], upright.
    """

    task: str
    name: str
    steps: list[int]
    frames: np.ndarray

    @property
    def key(self) -> str:
        """Unlike that of any other episode."""
        return f"{self.task}/{self.name}"


def write_dataset(config: WatchFramesConfig) -> int:
    """Write the pictures, and `train.json` and `test.json` with the episode and step of each; returns exit code 0.

    Training and held-out pictures are of different episodes: which ones is drawn over all of them, so that the held-out
    ones are as good as new.

    Raises:
        UserError: there are no episodes, or the folder holds a dataset of other settings.
    """
    camera, episodes = _from_demonstrations(config) if config.demonstrations is not None else _from_evaluation(config)
    found: list[tuple[str, list[dict[str, object]]]] = []
    for episode in episodes:
        if not found:  # of settings that only the first frame tells
            about = {"format": FORMAT, "camera": camera, "image_size": episode.frames.shape[1], "every": config.every}
            claim_folder(config.output, about)
        found.append((episode.key, _write_episode(config.output, episode)))
    if not found:
        raise UserError("demonstrations: no episode was found" if config.demonstrations else "evaluation: no successes")
    held_out = draw_held_out([key for key, _ in found], config.held_out, config.seed)
    for split in ("train", "test"):
        lines = [line for key, lines in found if (key in held_out) == (split == "test") for line in lines]
        write_text(config.output / f"{split}.json", "".join(json.dumps(line) + "\n" for line in lines))
    frames = sum(len(lines) for _, lines in found)
    print(f"{frames:,} frames of {len(found)} episodes in {config.output}; {len(held_out)} episodes are held out")
    return 0


def draw_held_out(keys: list[str], share: float, seed: int) -> set[str]:
    """Which episodes are held out: `share` of them, rounded, but at least one, whatever their order."""
    order = np.random.default_rng(seed).permutation(sorted(keys))
    return {str(key) for key in order[: max(1, round(share * len(keys)))]}


def _write_episode(root: Path, episode: NormalEpisode) -> list[dict[str, object]]:
    """Pictures of an episode; returns their lines for the meta file. Both splits lie in one folder."""
    folder = root / episode.task / "train" / GOOD
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, object]] = []
    for step, frame in zip(episode.steps, episode.frames, strict=True):
        path = folder / f"{episode.name}-{step:04d}.png"
        write_png(path, np.ascontiguousarray(frame))
        lines.append({
            "filename": path.relative_to(root).as_posix(), "label": 0, "clsname": episode.task,
            "episode": episode.key, "step": step,
        })  # fmt: skip
    return lines


def _from_demonstrations(config: WatchFramesConfig) -> tuple[str, Iterator[NormalEpisode]]:
    root, limit = config.demonstrations, config.max_episodes_per_task
    assert root is not None
    if not root.is_dir():
        raise UserError(f"demonstrations: no such folder: {root}")
    data = LiberoConfig(root=root, tasks=config.tasks, max_episodes_per_task=limit)
    found = scan(data, (config.camera,), proprio=False).episodes

    def read() -> Iterator[NormalEpisode]:
        for episode in found:
            rows = episode.rows[:: config.every]
            with h5py.File(root / episode.file) as file:
                images = file["data"][episode.demo][f"obs/{config.camera}{CAMERA_SUFFIX}"]
                frames = np.stack([images[int(row)] for row in rows])
            yield NormalEpisode(episode.task, episode.demo, [int(row) for row in rows], upright(frames))

    return config.camera, read()


def _from_evaluation(config: WatchFramesConfig) -> tuple[str, Iterator[NormalEpisode]]:
    assert config.evaluation is not None
    camera, played = play_again(config)

    def read() -> Iterator[NormalEpisode]:
        for task, outcome in played:
            assert outcome.film is not None
            steps = [number * config.every for number in range(len(outcome.film))]
            name = f"init-{outcome.episode.init_id:02d}-seed-{outcome.episode.seed}"
            yield NormalEpisode(task, name, steps, outcome.film)

    return camera, read()
