"""Shapes and order of geometry tokens for every option."""

from dataclasses import replace

import pytest
import torch

from vla.conf.models.components import GeometryEncoderConfig
from vla.models.components.geometry_encoder import (
    GeometryEncoder,
    PointNet,
    reduce_tokens,
    sincos_2d,
    subsample_points,
)

BASE = GeometryEncoderConfig(layers=(0, 1), dim=32, num_points=10)
B, S, GRID, DIM = 2, 4, (3, 5), 16


def _layers() -> list[torch.Tensor]:
    return [torch.randn(B, S, 5 + 15, DIM) for _ in range(2)]


def _encode(config: GeometryEncoderConfig, encoder: GeometryEncoder | None = None) -> torch.Tensor:
    encoder = encoder or GeometryEncoder(config, DIM, GRID, num_frames=2, num_cameras=2)
    tokens = reduce_tokens(_layers(), 5, GRID, config)
    pose = torch.randn(B, S, 9) if config.use_pose else None
    points = torch.randn(B, S, 10, 3) if config.use_pointnet else None
    return encoder(tokens, pose, points)


@pytest.mark.parametrize("temporal_layers", [0, 1])
@pytest.mark.parametrize("use_pose", [False, True])
@pytest.mark.parametrize("use_pointnet", [False, True])
@pytest.mark.parametrize(("tokens", "pool_size", "patches"), [("patch", 0, 15), ("patch", 2, 4), ("frame", 0, 1)])
def test_shapes(
    tokens: str, pool_size: int, patches: int, use_pointnet: bool, use_pose: bool, temporal_layers: int
) -> None:
    config = replace(
        BASE, tokens=tokens, pool_size=pool_size, use_pointnet=use_pointnet, use_pose=use_pose,
        temporal_layers=temporal_layers,
    )  # fmt: skip
    extra = 0 if tokens == "frame" else use_pointnet + use_pose
    out = _encode(config)
    assert out.shape == (B, S * (patches + extra), 32)
    out.square().sum().backward()


def test_tokens_are_the_mean_of_patch_tokens_over_layers() -> None:
    layers = _layers()
    reduced = reduce_tokens(layers, 5, GRID, BASE)
    torch.testing.assert_close(reduced, (layers[0] + layers[1])[:, :, 5:] / 2)
    frame = reduce_tokens(layers, 5, GRID, replace(BASE, tokens="frame"))
    torch.testing.assert_close(frame, reduced.mean(dim=2, keepdim=True))


def test_pooling_averages_neighbours() -> None:
    patches = torch.arange(16.0).view(1, 1, 16, 1)
    pooled = reduce_tokens([patches], 0, (4, 4), replace(BASE, pool_size=2))
    assert pooled.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_equal_patches_can_be_told_apart() -> None:
    config = replace(BASE, use_pose=False)
    encoder = GeometryEncoder(config, DIM, GRID, num_frames=2, num_cameras=2)
    out = encoder(torch.ones(1, S, 15, DIM))
    assert len(out[0].detach().unique(dim=0)) == S * 15  # by place, frame and camera


def test_frames_and_cameras_have_their_own_embedding() -> None:
    encoder = GeometryEncoder(replace(BASE, use_pose=False, tokens="frame"), DIM, GRID, num_frames=2, num_cameras=2)
    out = encoder(torch.ones(1, S, 1, DIM))[0]
    frames, cameras = encoder.frame_embedding, encoder.camera_embedding
    torch.testing.assert_close(out[2] - out[0], frames[1] - frames[0])  # time-major
    torch.testing.assert_close(out[1] - out[0], cameras[1] - cameras[0])


def test_wrong_number_of_images() -> None:
    encoder = GeometryEncoder(replace(BASE, use_pose=False), DIM, GRID, num_frames=1, num_cameras=2)
    with pytest.raises(ValueError, match="1 frames x 2 cameras per sample, got 4 images"):
        encoder(torch.ones(1, 4, 15, DIM))


def test_position_code_is_unique() -> None:
    code = sincos_2d((6, 7), 16, torch.device("cpu"))
    assert code.shape == (42, 16) and len(code.unique(dim=0)) == 42


def test_pointnet_ignores_order() -> None:
    points, net = torch.randn(3, 20, 3), PointNet()
    torch.testing.assert_close(net(points), net(points[:, torch.randperm(20)]))


@pytest.mark.parametrize(("size", "count"), [((20, 30), 7), ((20, 30), 100), ((56, 56), 1024), ((4, 4), 99)])
def test_points_are_distinct_and_spread(size: tuple[int, int], count: int) -> None:
    height, width = size
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    points = torch.stack((row, column, torch.zeros_like(row)), dim=-1)[None, None].float()
    picked = subsample_points(points, count)
    expected = min(count, height * width)
    assert picked.shape == (1, 1, expected, 3)
    assert len(picked[0, 0].unique(dim=0)) == expected
    spread = picked[0, 0, :, :2].amax(dim=0) - picked[0, 0, :, :2].amin(dim=0)
    assert spread[0] >= 0.5 * height and spread[1] >= 0.5 * width
