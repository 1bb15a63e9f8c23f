"""
track_head.py

Tracking head: a dense feature extractor at half resolution followed by the iterative tracker.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from vla.models.vggt.dpt_head import DPTHead
from vla.models.vggt.spec import VGGTSpec
from vla.models.vggt.tracker import Tracker, TrackOutput

_DOWN_RATIO = 2


class TrackHead(nn.Module):
    """
    Tracking head of VGGT.

    Args:
        spec: Sizes of the model.
    """

    def __init__(self, spec: VGGTSpec) -> None:
        super().__init__()
        self.feature_extractor = DPTHead(
            spec, output_dim=None, features=spec.track_features, down_ratio=_DOWN_RATIO, uv_embedding=False
        )
        self.tracker = Tracker(spec)

    def forward(
        self,
        tokens: Mapping[int, Tensor],
        patch_start_idx: int,
        image_size: tuple[int, int],
        query_points: Tensor,
        num_iterations: int | None = None,
    ) -> TrackOutput:
        """
        Args:
            tokens: Layer -> [B, S, P, 2C]; must hold the dense heads' layers.
            patch_start_idx: Index of the first patch token in P.
            image_size: (H, W) of the images in pixels.
            query_points: [B, N, 2] pixels (x, y) of frame 0.
            num_iterations: Steps of the tracker; None takes the spec's.

        Returns:
            Tracks, visibility and confidence.
        """
        feature_maps = self.feature_extractor(tokens, patch_start_idx, image_size)
        return self.tracker(query_points, feature_maps, num_iterations)
