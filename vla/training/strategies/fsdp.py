"""FSDP2: parameters, gradients and optimizer states are sharded over the processes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from vla.batches import Batch
from vla.conf.strategies import FSDPFullShardConfig
from vla.errors import UserError
from vla.models.base import BaseModel, ModelOutput
from vla.overwatch.distributed import initialize_distributed
from vla.training.precision import DTYPES
from vla.training.strategies.base_strategy import TrainStrategy

Result = TypeVar("Result")

RUNS_ON_CPU = hasattr(torch.cpu.Stream, "record_event")  # PyTorch 2.6 shards on accelerators only


class _Root(nn.Module):
    """The root of the sharding: runs any function of the model with the parameters that no unit holds at hand.

    FSDP finds the tensors that gradients come back through in tuples and dicts, not in dataclasses; so an output
    object travels as its type and its fields.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *args: Any) -> tuple[type | None, Any]:
        output = function(*args)
        if not is_dataclass(output):
            return None, output
        # The hooks that gather parameters for the backward pass sit on these tensors, and would not survive on views.
        return type(output), {name: _copy(getattr(output, name)) for name in output.__dataclass_fields__}


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and value.requires_grad else value


class _Inference:
    """The model as a task sees it: every call goes through the root."""

    def __init__(self, strategy: "FSDPStrategy") -> None:
        self._strategy = strategy

    def __call__(self, batch: Batch) -> ModelOutput:
        return self._strategy.forward(batch)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._strategy.model, name)
        return (lambda *args: self._strategy.call(value, *args)) if callable(value) else value


class FSDPStrategy(TrainStrategy):
    """Shards `model.fsdp_units()` one by one and everything else as one more unit, the root.

    Frozen and trainable parameters may share a unit. All processes must run the same parts of the model in the same
    order.
    """

    shards_parameters = True

    @property
    def settings(self) -> FSDPFullShardConfig:
        """The strategy's own configuration."""
        return cast(FSDPFullShardConfig, self.stage.strategy)

    def wrap_model(self) -> None:
        dist, config = self.dist, self.settings
        if dist.device == "cpu" and not RUNS_ON_CPU:
            raise UserError(f"strategy: FSDP on a CPU needs a newer PyTorch than {torch.__version__}; ddp does not")
        if not torch.distributed.is_initialized():  # one process, which no launcher started
            initialize_distributed(torch.device(dist.device).type, group_of_one=True)
        mesh = init_device_mesh(torch.device(dist.device).type, (dist.world_size,))
        options: dict[str, Any] = {
            "mesh": mesh,
            "mp_policy": self._mixed_precision(),
            "offload_policy": CPUOffloadPolicy() if config.cpu_offload else OffloadPolicy(),
        }
        for unit in self.model.fsdp_units():
            fully_shard(unit, reshard_after_forward=config.reshard_after_forward, **options)
        self._root = _Root(self.model)
        fully_shard(self._root, reshard_after_forward=False, **options)  # the backward pass begins with it

    def _mixed_precision(self) -> MixedPrecisionPolicy:
        """Parameters travel in the precision of the stage; outside of the passes they stay fp32.

        Inputs are autocast, as in every other strategy, so FSDP casts none.
        """
        if self.stage.precision == "fp32":
            return MixedPrecisionPolicy(cast_forward_inputs=False)
        return MixedPrecisionPolicy(
            param_dtype=DTYPES[self.stage.precision], reduce_dtype=DTYPES[self.settings.reduce_dtype],
            cast_forward_inputs=False,
        )  # fmt: skip

    def forward(self, batch: Batch) -> ModelOutput:
        return self.call(self.model, batch)

    def call(self, function: Callable[..., Result], *args: Any) -> Result:
        kind, output = cast(tuple[Any, Any], self._root(function, *args))
        return output if kind is None else kind(**output)

    def forward_context(self, sync: bool) -> AbstractContextManager:
        cast(FSDPModule, self._root).set_requires_gradient_sync(sync)
        return nullcontext()

    def gather(self, tensor: Tensor) -> Tensor:
        return super().gather(tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)

    def scatter(self, whole: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor):
            return super().scatter(whole, like)
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements)

    def state_dict(self) -> dict[str, Tensor]:
        for module in self._root.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # after an evaluation some are whole
        return super().state_dict()

    def inference_model(self) -> Any:
        return _Inference(self)
