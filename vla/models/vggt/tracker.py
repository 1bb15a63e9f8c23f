"""
tracker.py

Iterative point tracking over feature maps: at every step each point looks up correlations around its current position
and the update network moves it.

Shapes: B batch, S frames, N points, C channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vla.models.vggt.layers import Mlp
from vla.models.vggt.spec import VGGTSpec
from vla.models.vggt.track_features import (
    correlate,
    feature_pyramid,
    flow_encoding,
    position_encoding,
    sample_points,
)
from vla.models.vggt.track_transformer import UpdateFormer

_STRIDE = 2  # image pixels per feature pixel
_FLOW_SCALE = 518.0  # published constant: the side of the training images


class TrackOutput(NamedTuple):
    """Tracks of the query points through all frames."""

    track: Tensor  # [B, S, N, 2] image pixels (x, y), the last step's estimate
    track_list: Tensor  # [steps, B, S, N, 2]
    vis: Tensor  # [B, S, N] probability of being visible
    conf: Tensor  # [B, S, N] confidence in (0, 1)


class Tracker(nn.Module):
    """
    Tracks points of the first frame.

    Args:
        spec: Sizes of the model.
    """

    def __init__(self, spec: VGGTSpec) -> None:
        super().__init__()
        channels = spec.track_features
        window = (2 * spec.track_corr_radius + 1) ** 2
        token_dim = 3 * channels + 4
        self.num_iterations = spec.track_iterations
        self.num_levels = spec.track_corr_levels
        self.radius = spec.track_corr_radius
        self.corr_mlp = Mlp(spec.track_corr_levels * window, spec.track_hidden_size, channels)
        self.query_ref_token = nn.Parameter(torch.empty(1, 2, token_dim))
        self.updateformer = UpdateFormer(spec, token_dim, channels + 2)
        self.fmap_norm = nn.LayerNorm(channels)
        self.ffeat_norm = nn.GroupNorm(1, channels)
        self.ffeat_updater = nn.Sequential(nn.Linear(channels, channels), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(channels, 1))
        self.conf_predictor = nn.Sequential(nn.Linear(channels, 1))

    def reset_parameters(self) -> None:
        """Reference tokens start as unit normals."""
        nn.init.normal_(self.query_ref_token)

    def forward(self, query_points: Tensor, feature_maps: Tensor, num_iterations: int | None = None) -> TrackOutput:
        """
        Args:
            query_points: [B, N, 2] image pixels (x, y) of frame 0.
            feature_maps: [B, S, C, H / 2, W / 2].
            num_iterations: Steps; None takes the spec's.

        Returns:
            The tracks; frame 0 stays at the query.
        """
        frames = feature_maps.shape[1]
        maps = self.fmap_norm(feature_maps.movedim(2, -1)).movedim(-1, 2)
        query = query_points.to(torch.float32) / _STRIDE
        coords = query.unsqueeze(1).repeat(1, frames, 1, 1)  # [B, S, N, 2]
        features = sample_points(maps[:, 0], query).unsqueeze(1).expand(-1, frames, -1, -1)  # [B, S, N, C]
        pyramid = feature_pyramid(maps, self.num_levels)
        constant = self._constant_input(maps, query)
        tracks = []
        for _ in range(num_iterations or self.num_iterations):
            coords = coords.detach()  # every step learns its own move only
            move, change = self._update(pyramid, features, coords, constant)
            features = features + change
            coords = torch.cat((query.unsqueeze(1), (coords + move)[:, 1:]), dim=1)
            tracks.append(coords * _STRIDE)
        vis = self.vis_predictor(features).squeeze(-1).sigmoid()
        conf = self.conf_predictor(features).squeeze(-1).sigmoid()
        return TrackOutput(tracks[-1], torch.stack(tracks), vis, conf)

    def _constant_input(self, maps: Tensor, query: Tensor) -> Tensor:
        """What every step adds to its tokens: encoded query position and reference tokens, [B, N, S, token_dim]."""
        frames, (height, width) = maps.shape[1], maps.shape[-2:]
        encoding = position_encoding(height, width, self.query_ref_token.shape[-1], maps.device)
        position = sample_points(encoding.expand(len(query), -1, -1, -1), query)  # [B, N, token_dim]
        first, others = self.query_ref_token[:, :1], self.query_ref_token[:, 1:].expand(-1, frames - 1, -1)
        return position.unsqueeze(2) + torch.cat((first, others), dim=1).unsqueeze(1)

    def _update(
        self, pyramid: list[Tensor], features: Tensor, coords: Tensor, constant: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step: moves [B, S, N, 2] in feature pixels and feature changes [B, S, N, C]."""
        channels = features.shape[-1]
        correlation = self.corr_mlp(correlate(pyramid, features, coords, self.radius))
        flow = coords - coords[:, :1]
        scaled = flow / _FLOW_SCALE
        parts = (flow_encoding(flow, channels // 2), scaled, scaled, correlation, features)
        tokens = torch.cat(parts, dim=-1).transpose(1, 2)  # [B, N, S, token_dim]
        update = self.updateformer((tokens + constant).to(features.dtype)).transpose(1, 2)
        move, change = update.split((2, channels), dim=-1)
        normed = self.ffeat_norm(change.reshape(-1, channels)).view_as(change)
        return move.float(), self.ffeat_updater(normed)
