"""`Watcher`: an anomaly detector that looks at what a policy sees. A frame in, a score and a verdict out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vla.batches import AnomalyBatch
from vla.data.anomaly.processor import AnomalyProcessor
from vla.errors import UserError
from vla.evaluation.anomaly.scores import image_scores
from vla.serving.policy import checkpoint_fingerprint
from vla.serving.watching.threshold import Threshold, read_threshold
from vla.training.checkpoint_store import find_checkpoint
from vla.training.evaluate import run_dir_of
from vla.training.inference import load_for_inference
from vla.training.tasks.anomaly import AnomalyTask

SLOWED = 0.5  # of a policy's motion is left


@dataclass(frozen=True)
class Verdict:
    """What a watcher says about a frame.

    Attributes:
        score: higher is stranger.
        alarm: the score is above the threshold; None: the watcher has none, see `calibrate`.
    """

    score: float
    alarm: bool | None = None


class Watcher:
    """
    Scores frames. Anything that runs a policy can ask one.

    With a threshold, a score says how unusual a frame's map of anomaly is (`Usual`); without one, it is that of the
    detector's own run.

    Args:
        processor: of its checkpoint.
        model: on `device`.
        threshold: that a score has to exceed to be an alarm; None: no verdicts.
        device: where it computes.
        fingerprint: differs between any two detectors that may score differently.
        name: for people.

    Example:
        >>> watcher = Watcher.load(Path("runs/watcher"))
        >>> watcher.look([frame])[0].alarm
        False
    """

    def __init__(
        self, processor: AnomalyProcessor, model: Any, threshold: Threshold | None = None, *, device: str = "cpu",
        fingerprint: str = "", name: str = "watcher",
    ) -> None:  # fmt: skip
        self.processor, self.threshold, self.device = processor, threshold, device
        self.usual = None if threshold is None else threshold.usual
        self.fingerprint, self.name = fingerprint, name
        self._model, self._task = model.eval(), AnomalyTask(processor)
        # One by one on a CPU, so that no score's bits depend on which other frames came at the same time.
        self._max_batch = 1 if device == "cpu" else 16

    @classmethod
    def load(cls, path: Path, device: str = "cpu", calibrated: bool = True) -> Watcher:
        """The detector of a run or checkpoint folder, with the threshold that was saved beside it, if there is one.

        Args:
            path: see above.
            device: where it computes.
            calibrated: look for the threshold.

        Raises:
            UserError: there is no complete checkpoint, it is of no anomaly detector, or the threshold is of another.
        """
        folder = find_checkpoint(path, prefer="best")
        config, processor, model = load_for_inference(folder, device)
        if not isinstance(processor, AnomalyProcessor):
            raise UserError(f"watcher: must be a run of an anomaly detector, got {path}")
        run, fingerprint = run_dir_of(folder), checkpoint_fingerprint(folder, config)
        threshold = read_threshold(run, fingerprint) if calibrated else None
        return cls(
            processor, model, threshold, device=device, fingerprint=fingerprint, name=f"{run.name} {folder.name}"
        )

    @torch.no_grad()
    def look(self, frames: Sequence[np.ndarray]) -> list[Verdict]:
        """A verdict on each frame.

        Args:
            frames: uint8 [H, W, 3] each, upright as people see the scene.
        """
        scores = [score for maps in self._maps(frames) for score in self._scores(maps)]
        limit = None if self.threshold is None else self.threshold.value
        return [Verdict(score, None if limit is None else score > limit) for score in scores]

    @torch.no_grad()
    def places(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Maps of anomaly float32 [n, h, w] of frames as `look` takes them, averaged over cells of `score_pool`."""
        return np.concatenate([self._cells(maps) for maps in self._maps(frames)])

    def _cells(self, maps: torch.Tensor) -> np.ndarray:
        pool = self.processor.config.score_pool
        cells: np.ndarray = torch.nn.functional.avg_pool2d(maps[:, None], pool, stride=pool)[:, 0].numpy()
        return cells

    def _scores(self, maps: torch.Tensor) -> list[float]:
        if self.usual is not None:
            return self.usual.scores(self._cells(maps))
        config = self.processor.config
        scores: list[float] = image_scores(maps, config.score_pool)[config.image_score].tolist()
        return scores

    def _maps(self, frames: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """float32 [B, H, W] on the CPU, batch by batch."""
        for start in range(0, len(frames), self._max_batch):
            yield self._map(frames[start : start + self._max_batch])

    def _map(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        pictures = [self.processor.picture(Image.fromarray(np.ascontiguousarray(frame))) for frame in frames]
        images = torch.from_numpy(np.stack(pictures))
        size, (height, width) = len(images), images.shape[-2:]
        batch = AnomalyBatch(
            sample_ids=torch.arange(size), images=images, masks=torch.zeros(size, height, width, dtype=torch.bool),
            labels=torch.zeros(size, dtype=torch.int64), classes=["watched"] * size, files=[""] * size,
            is_real=torch.ones(size, dtype=torch.bool), rng_seeds=torch.zeros(size, dtype=torch.int64),
        )  # fmt: skip
        maps: torch.Tensor = self._model(self._task.prepare(batch, self.device)).anomaly_maps
        return maps.float().cpu()


def newest_frame(images: np.ndarray, cameras: int, bottom_up: bool = True) -> np.ndarray:
    """The frame to look at of what a policy is asked about: the first camera's newest one, upright.

    Args:
        images: uint8 [S, H, W, 3], time-major, all cameras of a moment side by side; see `PolicyInput`.
        cameras: of a moment.
        bottom_up: rows are stored lowest first.
    """
    frame: np.ndarray = images[-cameras]
    return frame[::-1] if bottom_up else frame


def restrain(chunk: np.ndarray, verdict: Verdict, action: str) -> np.ndarray:
    """What a policy may do of a chunk [chunk, A] that it predicted for a frame.

    Args:
        chunk: motion first, the gripper last.
        verdict: on the frame.
        action: observe: everything | slow: on an alarm half of the motion, the gripper as it was told | stop: on an
            alarm nothing, an empty chunk.
    """
    if not verdict.alarm or action == "observe":
        return chunk
    if action == "stop":
        return chunk[:0]
    slowed = np.array(chunk)
    slowed[:, :-1] *= SLOWED
    return slowed
