"""From what VGGT gives for a scene to geometry tokens for the fusion.

Shapes: B batch, S images of a sample (time-major, all cameras of the oldest frame first), n tokens of an image,
2C VGGT's token width, K points of an image.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.conf.models.components import GeometryEncoderConfig
from vla.models.components.attention import SelfAttentionBlock

POSE_DIM = 9  # VGGT's camera encoding: translation 3, quaternion 4, fields of view 2
# widths inside the published encoder (AtlasVLA), where tokens, points and pose are one vector per frame
_TOKEN_WIDTH, _POINT_WIDTH, _POSE_WIDTH = 256, 256, 128
_HEAD_DIM = 64


def reduce_tokens(
    tokens: Sequence[Tensor], patch_start: int, grid: tuple[int, int], config: GeometryEncoderConfig
) -> Tensor:
    """
    What is kept of VGGT's tokens: the mean over layers of the patch tokens, pooled as `config` says.

    There is nothing to learn in it, so that a frozen VGGT's result can be kept in this small form.

    Args:
        tokens: One [B, S, P, 2C] per layer.
        patch_start: Index of the first patch token in P.
        grid: Patch rows and columns of an image.
        config: `tokens` and `pool_size` decide.

    Returns:
        float32 [B, S, n, 2C]: n = 1 (`frame`), pool_size^2, or all patches.
    """
    patches = torch.stack([layer[:, :, patch_start:] for layer in tokens]).float().mean(dim=0)
    if config.tokens == "frame":
        return patches.mean(dim=2, keepdim=True)
    if config.pool_size == 0:
        return patches
    batch, images, _, dim = patches.shape
    maps = patches.flatten(0, 1).transpose(1, 2).unflatten(-1, grid)
    pooled = F.adaptive_avg_pool2d(maps, config.pool_size)
    return pooled.flatten(2).transpose(1, 2).reshape(batch, images, -1, dim)


def subsample_points(points: Tensor, num_points: int) -> Tensor:
    """
    Points at the nodes of an even grid over the image, the same for every image of a size.

    Args:
        points: [B, S, H, W, 3].
        num_points: Points to keep per image; all are kept where the image has fewer.

    Returns:
        float32 [B, S, K, 3], K = min(num_points, H * W).
    """
    height, width = points.shape[2:4]
    count = min(num_points, height * width)
    rows = min(height, max(1, math.isqrt(count * height // width), math.ceil(count / width)))
    columns = math.ceil(count / rows)
    row = (torch.arange(rows, device=points.device) * height + height // 2) // rows
    column = (torch.arange(columns, device=points.device) * width + width // 2) // columns
    picked = points[:, :, row.clamp(max=height - 1)][:, :, :, column.clamp(max=width - 1)]
    return picked.flatten(2, 3)[:, :, :count].float()


def sincos_2d(grid: tuple[int, int], dim: int, device: torch.device) -> Tensor:
    """Fixed position code [rows * columns, dim] float32: half of the channels for the row, half for the column."""
    frequencies = 10000.0 ** (-torch.arange(dim // 4, device=device, dtype=torch.float32) / (dim // 4))
    parts = []
    for length in grid:
        angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequencies
        parts.append(torch.cat((angles.sin(), angles.cos()), dim=-1))
    rows, columns = parts
    rows = rows[:, None].expand(-1, grid[1], -1)
    columns = columns[None].expand(grid[0], -1, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 1)


class PointNet(nn.Module):
    """
    Order-free summary of a point set (arXiv 1612.00593): [..., K, 3] -> [..., out_dim].

    Layer norm stands where the original has batch norm: a sample's result must not depend on its batch.
    """

    def __init__(self, out_dim: int = _POINT_WIDTH) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 64), (64, 128), (128, out_dim)):
            layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, points: Tensor) -> Tensor:
        """Map point sets [..., K, 3] to [..., out_dim], the maximum over the points."""
        return self.layers(points).amax(dim=-2)


class GeometryEncoder(nn.Module):
    """
    Geometry tokens of a sample: patch tokens and, if asked for, one token per image for its camera and its points.

    With `tokens: frame` each image gives one token made of all three side by side, as published.

    Args:
        config: What to use and how wide.
        token_dim: Width 2C of VGGT's tokens.
        grid: Patch rows and columns of an image.
        num_frames: Frames of the history.
        num_cameras: Cameras per frame; S = num_frames * num_cameras.

    Raises:
        ValueError: `config.dim` is no multiple of 4 (position code).
    """

    def __init__(
        self, config: GeometryEncoderConfig, token_dim: int, grid: tuple[int, int], num_frames: int, num_cameras: int
    ) -> None:
        super().__init__()
        if config.dim % 4:
            raise ValueError(f"geometry_encoder.dim: must be a multiple of 4, got {config.dim}")
        self.config = config
        self.per_frame = config.tokens == "frame"
        self.grid = (config.pool_size, config.pool_size) if config.pool_size else grid
        self.num_cameras = num_cameras
        width = _TOKEN_WIDTH if self.per_frame else config.dim
        self.token_projection = nn.Sequential(nn.Linear(token_dim, width), nn.LayerNorm(width))
        self.pointnet = PointNet() if config.use_pointnet else None
        self.pose_projection = (
            nn.Sequential(nn.Linear(POSE_DIM, _POSE_WIDTH), nn.LayerNorm(_POSE_WIDTH)) if config.use_pose else None
        )
        extra = [_POINT_WIDTH] * config.use_pointnet + [_POSE_WIDTH] * config.use_pose
        if self.per_frame:
            self.output = nn.Linear(width + sum(extra), config.dim)
        else:
            self.outputs = nn.ModuleList(nn.Linear(size, config.dim) for size in extra)
        self.frame_embedding = nn.Parameter(torch.empty(num_frames, config.dim))
        self.camera_embedding = nn.Parameter(torch.empty(num_cameras, config.dim))
        heads = max(1, config.dim // _HEAD_DIM)
        heads = heads if config.dim % heads == 0 else 1
        self.temporal = nn.ModuleList(SelfAttentionBlock(config.dim, heads) for _ in range(config.temporal_layers))
        for embedding in (self.frame_embedding, self.camera_embedding):
            nn.init.normal_(embedding, std=0.02)

    def forward(self, tokens: Tensor, pose: Tensor | None = None, points: Tensor | None = None) -> Tensor:
        """
        Args:
            tokens: [B, S, n, 2C] from `reduce_tokens`.
            pose: [B, S, 9] if the config uses poses.
            points: [B, S, K, 3] from `subsample_points` if the config uses points.

        Returns:
            Geometry tokens [B, N, dim], N = S * (n + one per extra input), or S with `tokens: frame`.

        Raises:
            ValueError: S isn't num_frames x num_cameras.
        """
        batch, images = tokens.shape[:2]
        frames, cameras = len(self.frame_embedding), self.num_cameras
        if images != frames * cameras:
            raise ValueError(f"images: must be {frames} frames x {cameras} cameras per sample, got {images} images")
        x = self.token_projection(tokens)
        extra = [] if self.pointnet is None else [self.pointnet(points)]
        extra += [] if self.pose_projection is None else [F.gelu(self.pose_projection(pose))]
        if self.per_frame:
            x = self.output(torch.cat((F.gelu(x.squeeze(2)), *extra), dim=-1)).unsqueeze(2)
        else:
            x = x + sincos_2d(self.grid, x.shape[-1], x.device)
            projected = [layer(part).unsqueeze(2) for layer, part in zip(self.outputs, extra, strict=True)]
            x = torch.cat((x, *projected), dim=2)
        # image s of a sample is camera s % cameras of frame s // cameras
        place = self.frame_embedding.repeat_interleave(cameras, dim=0)
        place = place + self.camera_embedding.repeat(frames, 1)
        x = x + place[:, None]
        for block in self.temporal:  # over the images, place by place
            x = block(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)
        return x.flatten(1, 2)
