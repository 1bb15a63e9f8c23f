"""Modules of OpenVLA-OFT (arXiv 2502.19645) beside its backbones, under their published names.

B samples, K steps of a chunk, A action dimensions, D width of the language model.
"""

import math

import torch
from torch import Tensor, nn


class _ResidualBlock(nn.Module):
    """x + ReLU(Linear(LayerNorm(x)))."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class MLPResNet(nn.Module):
    """
    [..., input_dim] -> [..., output_dim] through residual blocks.

    Args:
        num_blocks: Residual blocks.
        input_dim: Width of the input.
        hidden_dim: Width of the blocks.
        output_dim: Width of the output.
    """

    def __init__(self, num_blocks: int, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(input_dim)
        self.fc1 = nn.Linear(input_dim, hidden_dim)
        self.mlp_resnet_blocks = nn.ModuleList(_ResidualBlock(hidden_dim) for _ in range(num_blocks))
        self.layer_norm2 = nn.LayerNorm(hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class TwoLayerMLP(nn.Module):
    """Linear, GELU, Linear: robot states and noisy action values [..., input_dim] to embeddings [..., D]."""

    def __init__(self, input_dim: int, llm_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_dim, llm_dim)
        self.act_fn1 = nn.GELU()
        self.fc2 = nn.Linear(llm_dim, llm_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act_fn1(self.fc1(x)))


def timestep_code(timesteps: Tensor, dim: int) -> Tensor:
    """Sinusoidal code float32 [B, dim] of diffusion timesteps [B]: sines, then cosines."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, device=timesteps.device) * (-math.log(10000) / (half - 1)))
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
