"""What every action head takes and gives. B batch, T fused tokens, D width, A action dimensions."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.models.components import ActionHeadConfig


@dataclass(frozen=True)
class HeadInput:
    """Fused observation and instruction."""

    pooled: Tensor  # [B, D]
    tokens: Tensor  # [B, T, D]
    token_mask: Tensor | None = None  # bool [B, T], False where a token is padding; None: all are real
    proprio: Tensor | None = None  # [B, proprio_dim], normalised


class ActionHead(nn.Module):
    """
    Base of action heads. Actions are [B, chunk, A] in normalised model space, the gripper last (-1 open, +1 closed).

    Args:
        config: The head's configuration.
        input_dim: Width D of the fused tokens.
        action_dim: A.
        proprio_dim: Width of the robot state that joins the input; None: it isn't used.
    """

    def __init__(self, config: ActionHeadConfig, input_dim: int, action_dim: int, proprio_dim: int | None) -> None:
        super().__init__()
        self.config: Any = config  # a subclass knows which kind
        self.action_dim = action_dim
        self.joined_dim = input_dim
        self.proprio_projection: nn.Module | None = None
        if proprio_dim is not None:
            hidden = config.hidden_dim
            self.proprio_projection = nn.Sequential(nn.Linear(proprio_dim, hidden), nn.LayerNorm(hidden), nn.GELU())
            self.joined_dim += hidden

    def losses(self, inputs: HeadInput, actions: Tensor, seeds: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Loss of every action step, not reduced, and what to log of it.

        Args:
            inputs: What the head sees.
            actions: [B, chunk, A], the demonstrated ones.
            seeds: int64 [B]; a sample's random draws depend on its seed alone.

        Returns:
            float32 [B, chunk], and float32 [B, chunk] by name.
        """
        raise NotImplementedError

    def predict(self, inputs: HeadInput, seeds: Tensor | None = None) -> Tensor:
        """Actions float32 [B, chunk, A]; `seeds` int64 [B] fix the draws of heads that sample."""
        raise NotImplementedError

    def join(self, inputs: HeadInput) -> Tensor:
        """The pooled input with the projected robot state beside it, [B, joined_dim].

        Raises:
            ValueError: The head was built for a robot state and there is none.
        """
        if self.proprio_projection is None:
            return inputs.pooled
        if inputs.proprio is None:
            raise ValueError("proprio: the model was built with processor.proprio, but the batch has none")
        return torch.cat((inputs.pooled, self.proprio_projection(inputs.proprio)), dim=-1)
