"""
pose_encoding.py

Camera parameters <-> the nine numbers that VGGT predicts: translation (3), quaternion x y z w (4), vertical and
horizontal field of view in radians (2). Extrinsics map world to camera in OpenCV axes (x right, y down, z forward).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vla.models.vggt.camera_head import POSE_ENCODING_DIM


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """
    Rotation matrices of quaternions of any length but zero.

    Args:
        quaternion: [..., 4] as x, y, z, w.

    Returns:
        [..., 3, 3].
    """
    x, y, z, w = quaternion.unbind(-1)
    scale = 2 / quaternion.square().sum(-1)
    rows = (
        (1 - scale * (y * y + z * z), scale * (x * y - z * w), scale * (x * z + y * w)),
        (scale * (x * y + z * w), 1 - scale * (x * x + z * z), scale * (y * z - x * w)),
        (scale * (x * z - y * w), scale * (y * z + x * w), 1 - scale * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(rotation: Tensor) -> Tensor:
    """
    Unit quaternions of rotation matrices.

    Each of the four components can be read off first; dividing by the largest is the best-conditioned choice.

    Args:
        rotation: [..., 3, 3].

    Returns:
        [..., 4] as x, y, z, w with w >= 0.
    """
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = (row.unbind(-1) for row in rotation.unbind(-2))
    # four times the outer product q q^T, in the order x, y, z, w
    products = (
        (1 + m00 - m11 - m22, m01 + m10, m02 + m20, m21 - m12),
        (m01 + m10, 1 - m00 + m11 - m22, m12 + m21, m02 - m20),
        (m02 + m20, m12 + m21, 1 - m00 - m11 + m22, m10 - m01),
        (m21 - m12, m02 - m20, m10 - m01, 1 + m00 + m11 + m22),
    )
    outer = torch.stack([torch.stack(row, dim=-1) for row in products], dim=-2)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    quaternion = F.normalize(row, dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def encode_pose(extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """
    Pose encodings of cameras.

    Args:
        extrinsics: [..., 3, 4] camera-from-world.
        intrinsics: [..., 3, 3] in pixels; the principal point is not encoded.
        image_size: (H, W) in pixels.

    Returns:
        [..., 9].
    """
    height, width = image_size
    quaternion = matrix_to_quaternion(extrinsics[..., :3, :3])
    fov_h = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    return torch.cat((extrinsics[..., :3, 3], quaternion, torch.stack((fov_h, fov_w), dim=-1)), dim=-1)


def decode_pose(pose_encoding: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """
    Cameras of pose encodings.

    Args:
        pose_encoding: [..., 9]; a field of view of 0 gives an infinite focal length.
        image_size: (H, W) in pixels.

    Returns:
        Extrinsics [..., 3, 4] camera-from-world and intrinsics [..., 3, 3] in pixels, principal point in the centre.

    Raises:
        ValueError: The last dimension is not 9.
    """
    if pose_encoding.shape[-1] != POSE_ENCODING_DIM:
        raise ValueError(f"pose encodings have {POSE_ENCODING_DIM} numbers, got {pose_encoding.shape[-1]}")
    height, width = image_size
    translation, quaternion, fov = pose_encoding.split((3, 4, 2), dim=-1)
    extrinsics = torch.cat((quaternion_to_matrix(quaternion), translation.unsqueeze(-1)), dim=-1)
    half_size = torch.tensor([height / 2, width / 2], dtype=fov.dtype, device=fov.device)
    focal_y, focal_x = (half_size / torch.tan(fov / 2)).unbind(-1)
    zero, one = torch.zeros_like(focal_x), torch.ones_like(focal_x)
    rows = (
        (focal_x, zero, one * (width / 2)),
        (zero, focal_y, one * (height / 2)),
        (zero, zero, one),
    )
    return extrinsics, torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
