"""The parts of flow matching that know no network: draws of noise and time, and solvers (arXiv 2210.02747).

Time runs from 0 (noise) to 1 (data); x_t = (1 - t) noise + t data, and the velocity to learn is data - noise.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# pi0 (arXiv 2410.24164): (s - t) / s is Beta(1.5, 1) distributed, which puts more weight on noisy inputs
_BETA_CONCENTRATION = 1.5
_BETA_CUTOFF = 0.999
_SEED_BITS = 2**63 - 1


def draw_noise_and_time(
    seeds: Tensor | None, batch_size: int, shape: Sequence[int], device: torch.device, time_sampling: str = "uniform"
) -> tuple[Tensor, Tensor]:
    """
    Noise and time of every sample, from its own seed: the batch it is in, its process and the device don't matter.

    Args:
        seeds: int64 [B]; None takes fresh ones from PyTorch's generator.
        batch_size: B.
        shape: Shape of one sample's noise.
        device: Where the results go; they are drawn on the CPU.
        time_sampling: `uniform`, or `beta` (more weight on noise).

    Returns:
        Normal noise float32 [B, *shape] and time float32 [B] in [0, 1).
    """
    if seeds is None:
        seeds = torch.randint(_SEED_BITS, (batch_size,))
    generator = torch.Generator()
    noise, uniform = torch.empty(batch_size, *shape), torch.empty(batch_size)
    for index, seed in enumerate(seeds.tolist()):
        generator.manual_seed(seed & _SEED_BITS)
        torch.randn(tuple(shape), generator=generator, out=noise[index])
        uniform[index] = torch.rand((), generator=generator)
    time = uniform
    if time_sampling == "beta":
        time = _BETA_CUTOFF * (1 - uniform ** (1 / _BETA_CONCENTRATION))
    return noise.to(device), time.to(device)


def integrate(velocity: Callable[[Tensor, Tensor], Tensor], start: Tensor, num_steps: int, solver: str) -> Tensor:
    """
    Follow dx/dt = velocity(x, t) from t = 0 to t = 1 in equal steps.

    Args:
        velocity: (x [B, ...], t [B]) -> dx/dt [B, ...].
        start: x at t = 0, [B, ...].
        num_steps: Steps; the error falls with its first power (Euler) or its square (midpoint).
        solver: `euler` (one evaluation per step) or `midpoint` (two).

    Returns:
        x at t = 1, [B, ...].

    Raises:
        ValueError: The solver is unknown.
    """
    if solver not in ("euler", "midpoint"):
        raise ValueError(f"solver: must be one of euler, midpoint, got {solver!r}")
    step, x = 1.0 / num_steps, start
    for index in range(num_steps):
        time = torch.full((len(x),), index * step, dtype=x.dtype, device=x.device)
        slope = velocity(x, time)
        if solver == "midpoint":
            slope = velocity(x + 0.5 * step * slope, time + 0.5 * step)
        x = x + step * slope
    return x
