"""The classes behind the choices: each changes one thing of a class that comes with the toolkit."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vla.batches import ActionBatch
from vla.models.vlas.atlas import AtlasVLA
from vla.overwatch import initialize_overwatch
from vla.training.strategies.ddp import DDPStrategy

overwatch = initialize_overwatch(__name__)


class TabletopVLA(AtlasVLA):
    """Adds noise to the robot's state, so that a policy does not learn to look at nothing else."""

    def forward(self, batch: ActionBatch | Tensor, *args: Any, **options: Any) -> Any:
        if self.training and isinstance(batch, ActionBatch) and batch.proprio is not None:
            noise = torch.randn_like(batch.proprio) * self.config.proprio_noise
            batch = replace(batch, proprio=batch.proprio + noise)
        return super().forward(batch, *args, **options)


class VerboseDDPStrategy(DDPStrategy):
    """Says when an optimizer step is taken."""

    def optimizer_step(self) -> None:
        super().optimizer_step()
        overwatch.info(f"tabletop: step {self.state.global_step + 1} taken")
