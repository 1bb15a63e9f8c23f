"""A parallelism of your own: local SGD, in which processes train alone and average their weights every few steps.

    torchrun --nproc-per-node 2 experiments/custom_strategy.py --model.align.strategy.type local-sgd

A strategy is two things: a configuration under a name of its own, and a subclass of `TrainStrategy` that fills hooks.
The loop, accumulation, precision, evaluation, checkpoints and resuming come with the base class.
See docs/custom_strategy.md.
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vla.conf.checks import require_positive
from vla.conf.strategies import StrategyConfig
from vla.overwatch.distributed import all_reduce_sum
from vla.training.strategies.base_strategy import TrainStrategy


@StrategyConfig.register_subclass("local-sgd")
@dataclass(frozen=True)
class LocalSGDConfig(StrategyConfig):
    """Local SGD (arXiv 1805.09767): communication every `average_every` steps instead of at every one."""

    strategy_id: ClassVar[str] = "local-sgd"
    target: ClassVar[str] = f"{__name__}:LocalSGDStrategy"
    description: ClassVar[str] = "every process trains alone; weights are averaged every few steps"

    average_every: int = 8  # optimizer steps

    def __post_init__(self) -> None:
        require_positive(self, "average_every")


class LocalSGDStrategy(TrainStrategy):
    """A full copy of the model in every process, as in DDP, but gradients stay where they are."""

    def optimizer_step(self) -> None:
        super().optimizer_step()
        if (self.state.global_step + 1) % self.stage.strategy.average_every == 0:
            self.average_weights()

    @torch.no_grad()
    def average_weights(self) -> None:
        """Give every process the mean of all copies of the weights."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.copy_(all_reduce_sum(parameter.detach().clone(), self.dist) / self.dist.world_size)

    def gather(self, tensor: Tensor) -> Tensor:
        """What a checkpoint holds (and whether a step is finite) is a matter of all processes: their mean."""
        if not tensor.is_floating_point():
            return super().gather(tensor)
        return (all_reduce_sum(tensor.detach().clone(), self.dist) / self.dist.world_size).cpu()


if __name__ == "__main__":
    from vla.conf import cli
    from vla.conf.pretrain import PretrainConfig
    from vla.training.pretrain import run

    sys.exit(cli.run(PretrainConfig, run))
