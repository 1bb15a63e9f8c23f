"""What every policy gives to its task."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vla.models.base import ModelOutput


@dataclass
class ActionOutput(ModelOutput):
    """What training a policy needs of a forward pass. B samples, chunk action steps."""

    step_loss: Tensor = field(default_factory=lambda: torch.empty(0))  # float32 [B, chunk], not reduced
    step_logs: dict[str, Tensor] = field(default_factory=dict)  # float32 [B, chunk] by name, without gradient
