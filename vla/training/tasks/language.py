"""Learning to continue text, some of it about images."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vla.batches import IGNORE_INDEX, LanguageBatch, PackedBatch
from vla.data.vqa.images import ORDER, images_per_document
from vla.overwatch.distributed import DistState
from vla.training.metrics import WeightedSums
from vla.training.tasks.base import TaskOutput, looks_at_images

MOST_NATS = 700.0  # e to the power of more is no float any more


class LanguageTask:
    """Every token that has a label counts once.

    Args:
        processor: the run's; `pixels` turns stored images into what the vision backbone sees.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def weigh(self, batch: LanguageBatch) -> Tensor:
        return (batch.labels[:, 1:] != IGNORE_INDEX).sum()  # nothing comes before the first token to predict it from

    def measure(self, batch: LanguageBatch) -> dict[str, list[float]]:
        """What `batch`, as loaded, holds: `tokens` that are no padding, and the images of every sample."""
        images = batch.is_multimodal
        if isinstance(batch, PackedBatch) and ORDER in batch.pixel_values:
            images = images_per_document(
                batch.pixel_values, batch.document_ids, batch.image_mask, len(batch), whole=self.processor.whole
            )
        return {"tokens": [float(batch.attention_mask.sum())], "images_per_sample": images.double().tolist()}

    def prepare(self, batch: LanguageBatch, device: torch.device | str) -> LanguageBatch:
        batch = batch.to(device)
        if not looks_at_images(batch):
            return batch
        return replace(batch, pixel_values=self.processor.pixels(batch.pixel_values))

    def loss(self, output: Any, batch: LanguageBatch) -> TaskOutput:
        count = torch.tensor(output.token_loss.numel())
        return TaskOutput(
            output.token_loss.float().sum(), {"token_accuracy": (output.token_correct.float().sum(), count)}
        )

    @torch.no_grad()
    def evaluate(self, model: Any, batches: Iterable[LanguageBatch], dist: DistState) -> dict[str, float]:
        """Mean loss of a token in nats, of all and apart for rows with and without an image; its exponential; share of
        tokens that the model would have given (its most likely one, after the true ones before it).
        """
        sums = WeightedSums()
        for batch in batches:
            output: Any = model(batch)
            result = self.loss(output, batch)
            sums.add("eval/loss", result.loss_sum, self.weigh(batch))
            for name, (total, weight) in result.logs.items():
                sums.add(f"eval/{name}", total, weight)
            with_image = batch.is_multimodal[output.token_row]
            for kind, mask in (("multimodal", with_image), ("text", ~with_image)):
                sums.add(f"eval/{kind}_loss", output.token_loss.float()[mask].sum(), mask.sum())
        means = sums.means(dist)
        if "eval/loss" in means:
            means["eval/perplexity"] = math.exp(min(means["eval/loss"], MOST_NATS))
        return means
