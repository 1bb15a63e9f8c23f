"""Learning actions from demonstrations."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vla.batches import ActionBatch
from vla.data.processor import Processor
from vla.overwatch.distributed import DistState
from vla.training.metrics import WeightedSums
from vla.training.tasks.base import TaskOutput, looks_at_images


class ActionTask:
    """Every action step inside an episode counts once: of a chunk that runs over the end, only its beginning.

    Args:
        processor: the run's; turns stored images into what the model sees, and predictions into physical units.
    """

    def __init__(self, processor: Processor) -> None:
        self.processor = processor

    def weigh(self, batch: ActionBatch) -> Tensor:
        return batch.action_mask.sum()

    def prepare(self, batch: ActionBatch, device: torch.device | str) -> ActionBatch:
        """See `Task.prepare`.

        Raises:
            ValueError: the images are to be augmented, but what was seen in them before is to be used instead.
        """
        seeds = batch.augmentation_seeds  # as loaded, on the host, where they are needed
        batch = batch.to(device)
        if not looks_at_images(batch):
            if seeds is not None:
                raise ValueError("features: there must be none of images that are to be augmented")
            return batch
        return replace(batch, images=self.processor.images(batch.images, seeds))

    def loss(self, output: Any, batch: ActionBatch) -> TaskOutput:
        mask = batch.action_mask
        weight = mask.sum()
        logs = {name: (_masked_sum(values, mask), weight) for name, values in output.step_logs.items()}
        return TaskOutput(_masked_sum(output.step_loss, mask), logs)

    @torch.no_grad()
    def evaluate(self, model: Any, batches: Iterable[ActionBatch], dist: DistState) -> dict[str, float]:
        """Loss and logs of the model; L1 error of its predictions, normalised and per dimension in physical units;
        share of action steps with the gripper commanded the right way.
        """
        sums = WeightedSums()
        for batch in batches:
            output = self.loss(model(batch), batch)
            sums.add("eval/loss", output.loss_sum, self.weigh(batch))
            for name, (total, weight) in output.logs.items():
                if name != "action_l1":  # here it is that of the model's predictions
                    sums.add(f"eval/{name}", total, weight)
            self._compare(sums, model.predict(batch).float(), batch)
        return sums.means(dist)

    def _compare(self, sums: WeightedSums, predicted: Tensor, batch: ActionBatch) -> None:
        mask, weight = batch.action_mask, batch.action_mask.sum()
        error = (predicted - batch.actions).abs()
        sums.add("eval/action_l1", _masked_sum(error.mean(dim=-1), mask), weight)
        right = (predicted[..., -1] > 0) == (batch.actions[..., -1] > 0)  # -1 open, +1 closed
        sums.add("eval/gripper_accuracy", _masked_sum(right.float(), mask), weight)
        physical = self.processor.physical_actions
        error = (physical(predicted) - physical(batch.actions)).abs()
        names, units = self.processor.action_names, self.processor.action_units
        for dimension, (name, unit) in enumerate(zip(names, units, strict=True)):
            suffix = f"_{unit}" if unit.isidentifier() else ""
            label = f"eval/l1_{name.replace(' ', '_')}{suffix}"
            sums.add(label, _masked_sum(error[..., dimension], mask), weight)


def _masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum in fp32 over where `mask` holds. What was never looked at may be anything, NaN too."""
    return torch.where(mask, values.float(), 0.0).sum()
