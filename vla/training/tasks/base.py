"""The contract between the loop and what a model learns."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from vla.batches import Batch
from vla.models.base import ModelOutput
from vla.overwatch.distributed import DistState

VISION_PREFIX = "vision_backbone."  # of features that stand for what the vision backbone would compute


def looks_at_images(batch: Any) -> bool:
    """Whether the model will look at the images of `batch`: not if the vision backbone's features are there."""
    return not any(name.startswith(VISION_PREFIX) for name in batch.features)


@dataclass
class TaskOutput:
    """What a micro-batch contributes."""

    loss_sum: Tensor  # 0-dim float32 with a graph: summed over everything that `Task.weigh` counts, not averaged
    logs: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # name -> (sum, weight), 0-dim


class Task(Protocol):
    """What a model learns: the only place that knows what a batch's targets mean."""

    def weigh(self, batch: Batch) -> Tensor:
        """How many values of `batch`, as loaded, on the host, count in the loss; 0-dim, padding samples not counted."""
        ...

    def prepare(self, batch: Batch, device: torch.device | str) -> Batch:
        """`batch` on `device`, as the model takes it. `batch.features` is filled already."""
        ...

    def loss(self, output: ModelOutput, batch: Batch) -> TaskOutput:
        """Loss of a prepared batch. Every batch gives the same names in `logs`."""
        ...

    def evaluate(self, model: Any, batches: Iterable[Batch], dist: DistState) -> dict[str, float]:
        """Metrics `eval/...` over the prepared batches of all processes, the same in every process.

        Args:
            model: called with a batch like the model itself; its other methods work too.
            batches: as many in every process; padding samples are not counted.
        """
        ...
