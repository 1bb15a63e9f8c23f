"""DDP: a full copy of the model in every process, gradients averaged once per optimizer step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vla.batches import Batch
from vla.models.base import ModelOutput
from vla.training.strategies.base_strategy import TrainStrategy


class DDPStrategy(TrainStrategy):
    """Needs no process group and wraps nothing in a run of one process."""

    def wrap_model(self) -> None:
        super().wrap_model()
        self._replica: DistributedDataParallel | None = None
        if self.dist.world_size == 1:
            return
        config: Any = self.stage.strategy
        self._replica = DistributedDataParallel(
            self.model, find_unused_parameters=config.find_unused_parameters or self.model.may_skip_parameters,
            bucket_cap_mb=config.bucket_cap_mb, gradient_as_bucket_view=True,
        )  # fmt: skip
        # Without statistics that are learnt, buffers are constants; the option to say so has changed its name.
        self._replica.broadcast_buffers = _learns_statistics(self.model)

    def forward(self, batch: Batch) -> ModelOutput:
        return self.model(batch) if self._replica is None else self._replica(batch)

    def forward_context(self, sync: bool) -> AbstractContextManager:
        return nullcontext() if sync or self._replica is None else self._replica.no_sync()


def _learns_statistics(model: nn.Module) -> bool:
    """Whether batch norms in training mode change buffers, which must stay the same in all processes."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in model.modules())
