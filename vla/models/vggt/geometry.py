"""
geometry.py

Depth maps and cameras -> 3D points. Pixels have integer coordinates (no half-pixel shift), cameras OpenCV axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_DEPTH = 1e-8


def unproject_to_camera(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """
    Points of depth maps in their camera's frame.

    Args:
        depth: [..., H, W], distance along the optical axis.
        intrinsics: [..., 3, 3] in pixels, zero skew.

    Returns:
        [..., H, W, 3] in the unit and dtype of `depth`.
    """
    height, width = depth.shape[-2:]
    u = torch.arange(width, dtype=depth.dtype, device=depth.device)
    v = torch.arange(height, dtype=depth.dtype, device=depth.device)[:, None]
    k = intrinsics[..., None, None]
    x = (u - k[..., 0, 2, :, :]) * depth / k[..., 0, 0, :, :]
    y = (v - k[..., 1, 2, :, :]) * depth / k[..., 1, 1, :, :]
    return torch.stack((x, y, depth), dim=-1)


def camera_to_world(points: Tensor, extrinsics: Tensor) -> Tensor:
    """
    Points from camera frames into the world frame.

    Args:
        points: [..., H, W, 3].
        extrinsics: [..., 3, 4] camera-from-world.

    Returns:
        [..., H, W, 3] in the dtype of `points`.
    """
    rotation, translation = extrinsics[..., :3], extrinsics[..., 3]
    return torch.einsum("...ji,...hwj->...hwi", rotation, points - translation[..., None, None, :])


def unproject_depth(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """
    World points of depth maps, computed in float64.

    Args:
        depth: [..., H, W] or [..., H, W, 1].
        extrinsics: [..., 3, 4] camera-from-world.
        intrinsics: [..., 3, 3] in pixels, zero skew.

    Returns:
        World points [..., H, W, 3] in the dtype of `depth`, and a bool mask [..., H, W] of the valid pixels
        (depth > 1e-8).
    """
    if depth.shape[-1] == 1 and depth.ndim == extrinsics.ndim + 1:
        depth = depth.squeeze(-1)
    points = unproject_to_camera(depth.double(), intrinsics.double())
    points = camera_to_world(points, extrinsics.double())
    return points.to(depth.dtype), depth > MIN_DEPTH
