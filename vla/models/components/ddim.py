"""Denoising diffusion with the cosine schedule, sampled without noise in between (DDIM, arXiv 2010.02502)."""

import math

import torch
from torch import Tensor

_MAX_BETA = 0.999


class DDIM:
    """
    Adds noise for training and takes it away for prediction.

    The values are diffusers' `DDIMScheduler` with `squaredcos_cap_v2` (arXiv 2102.09672) and otherwise its defaults:
    the network predicts the noise, samples are clipped to [-1, 1] on the way, the last step ends without noise.

    Args:
        num_train_steps: Levels of noise.
    """

    def __init__(self, num_train_steps: int) -> None:
        self.num_train_steps = num_train_steps
        steps = range(num_train_steps)
        betas = [min(1 - _kept(i + 1, num_train_steps) / _kept(i, num_train_steps), _MAX_BETA) for i in steps]
        self.kept = (1 - torch.tensor(betas, dtype=torch.float32, device="cpu")).cumprod(0)  # [levels], of the variance

    def add_noise(self, values: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Values [B, ...] with as much of `noise` (the same shape) as belongs to timesteps int64 [B]."""
        kept = self.kept.to(values.device)[timesteps].view(-1, *[1] * (values.dim() - 1))
        return kept.sqrt() * values + (1 - kept).sqrt() * noise

    def timesteps(self, num_steps: int) -> list[int]:
        """The noise levels of `num_steps` prediction steps, from the highest.

        Raises:
            ValueError: There are not so many levels.
        """
        if not 1 <= num_steps <= self.num_train_steps:
            raise ValueError(f"num_inference_steps: must be in [1, {self.num_train_steps}], got {num_steps}")
        stride = self.num_train_steps // num_steps
        return [i * stride for i in reversed(range(num_steps))]

    def step(self, predicted_noise: Tensor, timestep: int, values: Tensor, num_steps: int) -> Tensor:
        """Values [...] one of `num_steps` steps less noisy than at `timestep`."""
        before = timestep - self.num_train_steps // num_steps
        kept = self.kept[timestep]
        kept_before = self.kept[before] if before >= 0 else torch.tensor(1.0)
        clean = (values - (1 - kept).sqrt() * predicted_noise) / kept.sqrt()
        return kept_before.sqrt() * clean.clamp(-1, 1) + (1 - kept_before).sqrt() * predicted_noise


def _kept(step: int, num_steps: int) -> float:
    return math.cos((step / num_steps + 0.008) / 1.008 * math.pi / 2) ** 2
