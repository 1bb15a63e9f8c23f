"""The hooks of a training loop that a parallelism fills. As they stand they are of one process."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from vla.batches import Batch
from vla.conf.pretrain import PretrainConfig
from vla.models.base import BaseModel, ModelOutput
from vla.overwatch.distributed import DistState
from vla.training.precision import LossScaler

Result = TypeVar("Result")


class StrategyHooks:
    """How one process puts, runs, steps and saves a model; see `TrainStrategy`, which calls them."""

    shards_parameters = False  # whether a process can run no part of the model without the others
    optimizer: torch.optim.Optimizer
    scaler: LossScaler

    def __init__(self, config: PretrainConfig, model: BaseModel, dist: DistState) -> None:
        self.config, self.stage, self.model, self.dist = config, config.stage_config, model, dist

    def wrap_model(self) -> None:
        """Put the model where it runs. Afterwards `self.model` still is the model, with parameters in place."""
        self.model.to(self.dist.device)

    def forward(self, batch: Batch) -> ModelOutput:
        """The model's forward pass."""
        return self.model(batch)

    def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a function that uses the model otherwise than by `forward`."""
        return function(*args)

    def forward_context(self, sync: bool) -> AbstractContextManager:
        """Around forward and backward pass of a micro-batch; with `sync` the gradients are averaged at its end."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Backpropagate the loss of a micro-batch."""
        self.scaler.scale(loss).backward()

    def clip_grad_norm(self, max_norm: float | None) -> float:
        """Clip the gradient to `max_norm`, if any; returns its norm before, over all parameters."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.scaler.unscale(parameter.grad for parameter in parameters)
        norm = self.gather(torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters]))
        if max_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm.to(self.dist.device))
        return norm.item()

    def optimizer_step(self) -> None:
        """Update the parameters."""
        self.optimizer.step()

    def gather(self, tensor: Tensor) -> Tensor:
        """A tensor of this process (weight, optimizer state, norm) as the whole one, on the host.

        All processes call it, in the same order.
        """
        return tensor.detach().cpu()

    def scatter(self, whole: Tensor, like: Tensor) -> Tensor:
        """The inverse of `gather`: this process's part of `whole`, placed like `like`."""
        return whole.to(like.device)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and buffers by name as this process holds them; `gather` makes them whole."""
        return self.model.state_dict(keep_vars=True)

    def inference_model(self) -> Any:
        """What a task evaluates: called like the model, with the model's methods."""
        return self.model
