"""What every language model gives to its task."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vla.models.base import ModelOutput


@dataclass
class LanguageOutput(ModelOutput):
    """What training a language model needs of a forward pass, of the T tokens that have a label, row by row."""

    token_loss: Tensor = field(default_factory=lambda: torch.empty(0))  # float32 [T], nats
    token_correct: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))  # bool [T], likeliest token
    token_row: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # int64 [T], of the batch
