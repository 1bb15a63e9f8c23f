"""An anomaly detector that looks at what a policy is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vla.batches import AnomalyBatch
from vla.data.anomaly.processor import AnomalyProcessor
from vla.errors import UserError
from vla.evaluation.anomaly.scores import image_scores
from vla.evaluation.simulator.messages import PolicyInput
from vla.serving.policy_server.contract import Served
from vla.training.inference import load_for_inference
from vla.training.tasks.anomaly import AnomalyTask


class Watcher:
    """
    Scores the newest frame of the first camera, upright, as the detector's run scores pictures.

    Args:
        processor: of its checkpoint.
        model: on `device`.
        served: says which way up pictures are.
        device: where it computes.
    """

    def __init__(self, processor: AnomalyProcessor, model: Any, served: Served, device: str = "cpu") -> None:
        self._processor, self._model, self._served, self._device = processor, model.eval(), served, device
        self._task = AnomalyTask(processor)

    @classmethod
    def load(cls, path: Path, served: Served, device: str = "cpu") -> Watcher:
        """The detector of a run or checkpoint folder.

        Raises:
            UserError: there is no complete checkpoint, or it is of no anomaly detector.
        """
        _, processor, model = load_for_inference(path, device)
        if not isinstance(processor, AnomalyProcessor):
            raise UserError(f"watcher: must be a run of an anomaly detector, got {path}")
        return cls(processor, model, served, device)

    @torch.no_grad()
    def score(self, inputs: list[PolicyInput]) -> list[float]:
        """One number for each; higher is stranger."""
        cameras = len(self._served.cameras)
        pictures = []
        for item in inputs:
            frame = np.ascontiguousarray(self._served.upright(item.images[-cameras]))
            pictures.append(torch.from_numpy(self._processor.picture(Image.fromarray(frame))))
        images = torch.stack(pictures)
        size, (height, width) = len(images), images.shape[-2:]
        batch = AnomalyBatch(
            sample_ids=torch.arange(size), images=images, masks=torch.zeros(size, height, width, dtype=torch.bool),
            labels=torch.zeros(size, dtype=torch.int64), classes=["served"] * size, files=[""] * size,
            is_real=torch.ones(size, dtype=torch.bool), rng_seeds=torch.zeros(size, dtype=torch.int64),
        )  # fmt: skip
        maps = self._model(self._task.prepare(batch, self._device)).anomaly_maps
        config = self._processor.config
        return image_scores(maps.cpu(), config.score_pool)[config.image_score].tolist()
