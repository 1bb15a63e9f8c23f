"""EpisodeDataset: windows of frames, actions and robot states out of episodes, whatever files they come from."""

from dataclasses import dataclass, replace
from operator import index as as_index
from typing import Any

import numpy as np

from vla.data.conventions import Conventions
from vla.data.datasets.episodes import Episode, FrameSource
from vla.data.processor import Processor


@dataclass(frozen=True)
class EpisodeRef:
    """Where an episode of a dataset comes from, and which samples it gives."""

    file: str  # path below the dataset's root
    demo: str
    task: str
    instruction: str
    length: int  # samples
    first_sample: int


class EpisodeDataset:
    """Every step of every episode is a sample: what was seen up to it, and the actions from it on.

    Sample t of an episode holds the frames t - (num_frames - 1) * frame_stride, ..., t - frame_stride, t of every
    camera. History never reaches into another episode: before the first frame, that one is repeated. Of the chunk of
    actions t, t + 1, ... those past the end repeat the last one and are masked out.

    Args:
        episodes: checked episodes, at least one.
        reader: of their frames.
        processor: says what a window is, and normalises actions and robot states.
        conventions: what the numbers of this data mean.
        skipped: one line for each episode that was left out.
        augments: whether its images are to be augmented (by the task, where the model is).
    """

    def __init__(
        self, episodes: list[Episode], reader: FrameSource, processor: Processor, conventions: Conventions,
        skipped: list[str] | None = None, augments: bool = False,
    ) -> None:  # fmt: skip
        self.augments = augments
        config = processor.config
        lengths = np.array([len(episode.rows) for episode in episodes])
        self._ends = np.cumsum(lengths)
        self._rows = np.concatenate([episode.rows for episode in episodes])
        self._stored_actions = np.concatenate([episode.actions for episode in episodes])
        self._actions = processor.normalize_actions(self._stored_actions)
        self._proprio = None
        if config.proprio:
            self._proprio = processor.normalize_proprio(np.concatenate([episode.proprio for episode in episodes]))
        self._reader = reader
        self._cameras = config.cameras
        self._image_shape = episodes[0].image_shape
        self._history = np.arange(1 - config.num_frames, 1) * config.frame_stride
        self._chunk = np.arange(processor.chunk_size)
        self.skipped = skipped or []
        self.conventions = replace(conventions, image_shape=self._image_shape)
        self.images_needed = (
            True  # false: what is seen in them is kept (`vla.training.feature_store`), they stay on disk
        )
        self._contents = [episode.content for episode in episodes]
        starts = self._ends - lengths
        self.episodes = [
            EpisodeRef(e.file, e.demo, e.task, e.instruction, len(e.rows), int(start))
            for e, start in zip(episodes, starts, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample `index`; see `MapDataset`.

        Images come time-major, all cameras of the oldest frame first, as views of [S, H, W, 3] memory.

        Raises:
            IndexError: there is no such sample.
            BadEpisode: its frames can't be read.
        """
        episode, step = self._locate(index)
        ref = self.episodes[episode]
        images = self._read_images(ref, step)
        ahead = step + self._chunk
        sample = {
            "images": images.reshape(images.shape[0] * images.shape[1], *images.shape[2:]).transpose(0, 3, 1, 2),
            "instruction": ref.instruction,
            "actions": self._actions[ref.first_sample + np.minimum(ahead, ref.length - 1)],
            "action_mask": ahead < ref.length,
            "augmented": self.augments,
        }
        if self._proprio is not None:
            sample["proprio"] = self._proprio[ref.first_sample + step]
        return sample

    def _read_images(self, ref: EpisodeRef, step: int) -> np.ndarray:
        """Uint8 [frames, cameras, H, W, 3] of sample number `step` of an episode; H and W are 0 where nobody looks."""
        rows = self._rows[ref.first_sample + np.maximum(step + self._history, 0)].tolist()
        shape = self._image_shape if self.images_needed else (0, 0)
        images = np.empty((len(rows), len(self._cameras), *shape, 3), dtype=np.uint8)
        if self.images_needed:
            for number, camera in enumerate(self._cameras):
                self._reader.read(ref.file, ref.demo, camera, rows, images[:, number])
        return images

    def sample_label(self, index: int) -> str:
        """Where sample `index` comes from: `"put_the_bowl_demo.hdf5 demo_3 t=12"`."""
        episode, step = self._locate(index)
        return f"{self.episodes[episode].file} {self.episodes[episode].demo} t={step}"

    def locate(self, index: int) -> tuple[str, int, int]:
        """Hash of the content of the episode that sample `index` is of, its number there, the episode's samples.

        Samples at the same place have the same images, whatever else the dataset holds.
        """
        episode, step = self._locate(index)
        return self._contents[episode], step, self.episodes[episode].length

    def episode_actions(self, episode: int) -> np.ndarray:
        """Actions float32 [T, A] of episode number `episode`, one for each of its samples, as stored."""
        ref = self.episodes[episode]
        return self._stored_actions[ref.first_sample : ref.first_sample + ref.length]

    @property
    def read_counters(self) -> dict[str, int]:
        """How this process read its frames: counters of its source, and the bytes that it keeps."""
        return {**self._reader.counters, "cached_bytes": self._reader.cached_bytes}

    def forget_frames(self) -> None:
        """Close this process's files and empty its cache of frames."""
        self._reader.close()

    def _locate(self, index: int) -> tuple[int, int]:
        index = as_index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index}: there are {len(self)}")
        episode = int(np.searchsorted(self._ends, index, side="right"))
        return episode, index - self.episodes[episode].first_sample
