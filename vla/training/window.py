"""The window of micro-batches that makes one optimizer step: what each of them counts for."""

from dataclasses import dataclass

import torch

from vla.batches import Batch
from vla.overwatch.distributed import DistState, all_reduce_sum
from vla.training.tasks.base import Task


@dataclass(frozen=True)
class WindowWeights:
    """Weights of the micro-batches of this process, and what all processes agreed on.

    Attributes:
        shares: by micro-batch, the factor that turns its loss sum into its part of the global mean, times `total`.
        counts: by micro-batch, what it adds to `total`.
        total: sum of the counts over the window and all processes; 0 if there is nothing to learn.
        stop: whether any process was asked to stop.
    """

    shares: list[float]
    counts: list[float]
    total: float
    stop: bool


def weigh_window(task: Task, window: list[Batch], reduction: str, stop: bool, dist: DistState) -> WindowWeights:
    """Agree with all processes on the weights of a window, by one small reduction on the host.

    With reduction "global" every value counts the same, so the gradient is that of the global batch however it is
    cut. With "microbatch" every micro-batch that holds any value counts the same: a mean of means.

    Args:
        window: micro-batches as loaded.
        stop: whether this process was asked to stop; the answer travels with the weights.
    """
    weights = [float(task.weigh(batch)) for batch in window]
    if reduction == "global":
        shares, counts = [1.0] * len(weights), weights
    else:
        shares = [1 / weight if weight else 0.0 for weight in weights]
        counts = [float(weight > 0) for weight in weights]
    total, stops = all_reduce_sum(torch.tensor([sum(counts), float(stop)], dtype=torch.float64), dist).tolist()
    return WindowWeights(shares, counts, total, stops > 0)
