"""Learning what normal pictures look like, from their features."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vla.batches import AnomalyBatch
from vla.data.anomaly.processor import AnomalyProcessor
from vla.evaluation.anomaly.results import AnomalyResults
from vla.overwatch.distributed import DistState
from vla.training.metrics import WeightedSums
from vla.training.tasks.base import TaskOutput, looks_at_images


class AnomalyTask:
    """Every picture counts once, and all of its feature elements alike: pictures have equally many.

    Args:
        processor: the run's; normalises pictures, and says how a map becomes a score.
    """

    def __init__(self, processor: AnomalyProcessor) -> None:
        self.processor = processor

    def weigh(self, batch: AnomalyBatch) -> Tensor:
        return batch.is_real.sum()

    def prepare(self, batch: AnomalyBatch, device: torch.device | str) -> AnomalyBatch:
        batch = batch.to(device)
        if not looks_at_images(batch):
            return batch
        return replace(batch, images=self.processor.images(batch.images))

    def loss(self, output: Any, batch: AnomalyBatch) -> TaskOutput:
        real = batch.is_real
        logs = {name: (_real_sum(values, real), real.sum()) for name, values in output.sample_logs.items()}
        return TaskOutput(_real_sum(output.sample_loss, real), logs)

    @torch.no_grad()
    def evaluate(self, model: Any, batches: Iterable[AnomalyBatch], dist: DistState) -> dict[str, float]:
        """Loss of all pictures, defective ones too, and the means over the classes of `AnomalyResults`' metrics."""
        sums, results = self.collect(model, batches)
        means = results.compute(dist).means
        return sums.means(dist) | {f"eval/{name}": value for name, value in means.items()}

    @torch.no_grad()
    def collect(self, model: Any, batches: Iterable[AnomalyBatch]) -> tuple[WeightedSums, AnomalyResults]:
        """Losses and maps of prepared batches, of this process alone."""
        config = self.processor.config
        sums, results = WeightedSums(), AnomalyResults(config.score_pool, config.image_score)
        for batch in batches:
            output = model(batch)
            found = self.loss(output, batch)
            sums.add("eval/loss", found.loss_sum, self.weigh(batch))
            for name, (total, weight) in found.logs.items():
                sums.add(f"eval/{name}", total, weight)
            results.add(batch.sample_ids, batch.classes, output.anomaly_maps, batch.masks, batch.labels, batch.is_real)
        return sums, results


def _real_sum(values: Tensor, real: Tensor) -> Tensor:
    """Sum in fp32 over the samples that are no padding."""
    return torch.where(real, values.float(), 0.0).sum()
