"""
gradient_losses.py

Spatial terms of the dense losses: differences of the error between neighbouring pixels, and surface normals, over
several scales.

Shapes: N frames, H x W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ERROR = 100.0
_MIN_NORMALS = 10


def multi_scale(loss: Callable[..., Tensor], maps: Sequence[Tensor], num_scales: int) -> Tensor:
    """Mean of `loss(*maps)` over scales; scale k takes every 2**k-th pixel of maps [N, H, W, ...]."""
    values = [loss(*(x[:, :: 2**scale, :: 2**scale] for x in maps)) for scale in range(num_scales)]
    return torch.stack(values).mean()


def value_gradient_loss(
    predicted: Tensor,
    truth: Tensor,
    mask: Tensor,
    confidence: Tensor,
    weighting: tuple[float, float] | None = None,
) -> Tensor:
    """
    Differences of the error between horizontal and vertical neighbours that are both valid.

    Args:
        predicted: [N, H, W, C].
        truth: [N, H, W, C].
        mask: [N, H, W] bool.
        confidence: [N, H, W]; used with `weighting` only.
        weighting: (gamma, alpha) weighs a difference d as gamma * d * c - alpha * log c; None does not weigh.

    Returns:
        Scalar: the sum over all neighbours divided by the number of valid pixels times channels.
    """
    count = mask.sum() * predicted.shape[-1]
    error = (predicted - truth) * mask.unsqueeze(-1)
    total = predicted.new_zeros(())
    for axis in (1, 2):
        length = error.shape[axis]
        ahead, behind = slice(1, length), slice(0, length - 1)
        both = _take(mask, axis, ahead) & _take(mask, axis, behind)
        difference = (_take(error, axis, ahead) - _take(error, axis, behind)).abs() * both.unsqueeze(-1)
        difference = difference.clamp(max=MAX_ERROR)
        if weighting is not None:
            gamma, alpha = weighting
            certainty = _take(confidence, axis, ahead).unsqueeze(-1)
            difference = gamma * difference * certainty - alpha * certainty.log()
        total = total + difference.sum()
    return total / count.clamp(min=1)


def normal_loss(predicted: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """
    Angle between surface normals of two point maps.

    Args:
        predicted: [N, H, W, 3].
        truth: [N, H, W, 3].
        mask: [N, H, W] bool.

    Returns:
        Scalar: mean of 1 - cos over the normals that all their pixels support; zero for fewer than ten.
    """
    normals, valid = surface_normals(predicted, mask)
    true_normals, _ = surface_normals(truth, mask)
    cosine = (normals * true_normals).sum(-1)[valid]
    if cosine.numel() < _MIN_NORMALS:
        return predicted.sum() * 0.0
    return (1 - cosine).mean()


def surface_normals(points: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """
    Four unit normals per pixel, from the cross products of neighbouring directions (up, left, down, right).

    Args:
        points: [N, H, W, 3].
        mask: [N, H, W] bool.

    Returns:
        Normals [4, N, H, W, 3], and where pixel and both neighbours are valid, bool [4, N, H, W].
    """
    padded = F.pad(points, (0, 0, 1, 1, 1, 1))
    padded_mask = F.pad(mask, (1, 1, 1, 1))
    rows, columns = points.shape[1], points.shape[2]
    shifts = ((0, 1), (1, 0), (2, 1), (1, 2))  # up, left, down, right in the padded map
    directions = [padded[:, y : y + rows, x : x + columns] - points for y, x in shifts]
    supports = [padded_mask[:, y : y + rows, x : x + columns] for y, x in shifts]
    pairs = [(k, (k + 1) % 4) for k in range(4)]
    normals = torch.stack([torch.cross(directions[a], directions[b], dim=-1) for a, b in pairs])
    valid = torch.stack([mask & supports[a] & supports[b] for a, b in pairs])
    return F.normalize(normals, dim=-1), valid


def _take(x: Tensor, axis: int, part: slice) -> Tensor:
    return x[:, part] if axis == 1 else x[:, :, part]
