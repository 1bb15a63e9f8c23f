"""Pose encodings and unprojection on cases with known answers."""

from __future__ import annotations

import math

import torch

from vla.models.vggt.geometry import unproject_depth, unproject_to_camera
from vla.models.vggt.pose_encoding import decode_pose, encode_pose, matrix_to_quaternion, quaternion_to_matrix


def test_quaternion_order_and_sign() -> None:
    half = math.sqrt(0.5)
    turn = quaternion_to_matrix(torch.tensor([0.0, 0.0, half, half]))  # 90 degrees about z
    torch.testing.assert_close(turn @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(matrix_to_quaternion(turn), torch.tensor([0.0, 0.0, half, half]))


def test_quaternions_round_trip_also_at_half_turns() -> None:
    random = torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half_turns = torch.cat((torch.eye(4, dtype=torch.float64), torch.tensor([[1.0, 1.0, 0.0, 0.0]]).double()))
    unit = torch.nn.functional.normalize(torch.cat((random, half_turns)), dim=-1)
    back = matrix_to_quaternion(quaternion_to_matrix(3 * unit))  # the length of a quaternion does not matter
    assert (back[:, 3] >= 0).all()
    torch.testing.assert_close((back * unit).sum(-1).abs(), torch.ones(len(unit), dtype=torch.float64))


def test_pose_round_trip_keeps_focal_lengths() -> None:
    encoding = torch.tensor([0.1, -0.2, 0.3, 0.0, 0.0, 0.0, 1.0, 0.8, 1.1])
    extrinsics, intrinsics = decode_pose(encoding, (40, 60))
    assert intrinsics[0, 2] == 30 and intrinsics[1, 2] == 20
    torch.testing.assert_close(intrinsics[1, 1], torch.tensor(20 / math.tan(0.4)))
    torch.testing.assert_close(intrinsics[0, 0], torch.tensor(30 / math.tan(0.55)))
    torch.testing.assert_close(encode_pose(extrinsics, intrinsics, (40, 60)), encoding)


def test_points_lie_on_pixel_rays() -> None:
    intrinsics = torch.tensor([[2.0, 0.0, 1.0], [0.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    points = unproject_to_camera(torch.full((2, 3), 8.0), intrinsics)
    assert points[1, 2].tolist() == [4.0, 2.0, 8.0]
    assert points[0, 1].tolist() == [0.0, 0.0, 8.0]


def test_world_points_project_back() -> None:
    generator = torch.Generator().manual_seed(1)
    encoding = torch.cat((torch.randn(2, 7, generator=generator), torch.full((2, 2), 0.9)), dim=-1)
    extrinsics, intrinsics = decode_pose(encoding, (4, 6))
    depth = torch.rand(2, 4, 6, 1, generator=generator) + 0.5
    depth[0, 0, 0] = 0.0
    points, valid = unproject_depth(depth, extrinsics, intrinsics)
    assert valid.sum() == valid.numel() - 1 and not valid[0, 0, 0]
    camera = torch.einsum("sij,shwj->shwi", extrinsics[..., :3], points) + extrinsics[:, None, None, :, 3]
    pixels = torch.einsum("sij,shwj->shwi", intrinsics, camera)
    torch.testing.assert_close(camera[..., 2], depth[..., 0], atol=1e-5, rtol=0)
    columns = (pixels[..., 0] / pixels[..., 2])[1]
    torch.testing.assert_close(columns, torch.arange(6.0).expand(4, 6), atol=1e-4, rtol=0)
