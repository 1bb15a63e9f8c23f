"""Action heads of OpenVLA-OFT: from the hidden states at the actions' places to actions.

B samples, K actions of a chunk, A action dimensions, D width of the language model.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.models.openvla_oft import DiffusionHeadConfig, L1HeadConfig, OFTHeadConfig
from vla.models.components.ddim import DDIM
from vla.models.components.oft_modules import MLPResNet, TwoLayerMLP, timestep_code


class L1Head(nn.Module):
    """
    Actions by regression.

    Args:
        config: Sizes.
        llm_dim: D.
        action_dim: A.
    """

    def __init__(self, config: L1HeadConfig, llm_dim: int, action_dim: int) -> None:
        super().__init__()
        self.model = MLPResNet(config.num_blocks, action_dim * llm_dim, config.hidden_dim, action_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, K, A x D] to actions float32 [B, K, A]."""
        return self.model(hidden).float()


class _NoisePredictor(nn.Module):
    def __init__(self, config: L1HeadConfig, llm_dim: int, action_dim: int) -> None:
        super().__init__()
        self.mlp_resnet = MLPResNet(config.num_blocks, action_dim * llm_dim, config.hidden_dim, action_dim)


class DiffusionHead(nn.Module):
    """
    The noise in actions, of which hidden states know.

    Args:
        config: Sizes and steps.
        llm_dim: D.
        action_dim: A.
    """

    def __init__(self, config: DiffusionHeadConfig, llm_dim: int, action_dim: int) -> None:
        super().__init__()
        self.llm_dim = llm_dim
        self.noise_predictor = _NoisePredictor(config, llm_dim, action_dim)
        self.ddim = DDIM(config.num_train_steps)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, K, A x D] to noise float32 [B, K, A]."""
        return self.noise_predictor.mlp_resnet(hidden).float()

    def timestep_token(self, timesteps: Tensor) -> Tensor:
        """Embedding [B, 1, D] of timesteps [B]."""
        return timestep_code(timesteps, self.llm_dim)[:, None]


class ActionModules(nn.Module):
    """
    What OFT adds to OpenVLA, each part under the name of the file that it is published in.

    Args:
        config: Of the action head.
        llm_dim: D.
        action_dim: A.
        proprio_dim: Values of the robot's state; None: it isn't used.
    """

    def __init__(self, config: OFTHeadConfig, llm_dim: int, action_dim: int, proprio_dim: int | None) -> None:
        super().__init__()
        self.action_head: Any = None
        self.proprio_projector: nn.Module | None = None
        self.noisy_action_projector: nn.Module | None = None
        if isinstance(config, DiffusionHeadConfig):
            self.action_head = DiffusionHead(config, llm_dim, action_dim)
            self.noisy_action_projector = TwoLayerMLP(1, llm_dim)
        elif isinstance(config, L1HeadConfig):
            self.action_head = L1Head(config, llm_dim, action_dim)
        if proprio_dim is not None:
            self.proprio_projector = TwoLayerMLP(proprio_dim, llm_dim)

    def forward(self, hidden: Tensor, num_actions: int) -> Tensor:
        """What the head makes of hidden states [B, K x A, D]: [B, K, A]; `num_actions` is K."""
        return self.action_head(hidden.unflatten(1, (num_actions, -1)).flatten(2))

    def proprio_token(self, proprio: Tensor | None) -> list[Tensor]:
        """The robot's state [B, proprio_dim] as a list of one token [B, 1, D]; an empty one if it isn't used.

        Raises:
            ValueError: It is used, and there is none.
        """
        if self.proprio_projector is None:
            return []
        if proprio is None:
            raise ValueError("proprio: the model was built with processor.proprio, but the batch has none")
        return [self.proprio_projector(proprio)[:, None]]

    def noisy_tokens(self, noisy: Tensor) -> Tensor:
        """Noisy actions [B, K, A], each value as a token: [B, K x A, D]."""
        assert self.noisy_action_projector is not None
        return self.noisy_action_projector(noisy.flatten(1)[..., None])


def draw_timesteps(uniform: Tensor, num_train_steps: int) -> Tensor:
    """Timesteps int64 [B] of uniform numbers [B] in [0, 1)."""
    return (uniform * num_train_steps).to(torch.int64).clamp(max=num_train_steps - 1)
