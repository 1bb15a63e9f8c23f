"""MFCN, UniAD's neck: feature maps of several strides resized to one and put on top of each other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vla.models.anomaly.part import Part


class MFCN(Part):
    """
    Maps resized bilinearly, with their corners aligned and without antialiasing, as published. Nothing is learned.

    Args:
        options: `inplanes` and `instrides` of the maps, and `outstrides` with the one stride that they get.

    Attributes:
        outplanes, outstrides: of the result, one number each.
    """

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.instrides = list(options.instrides)
        self.outstrides = list(options.outstrides)
        self.outplanes = [sum(options.inplanes)]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [B, C_i, H_i, W_i] -> float [B, sum of C_i, H, W], channels in the order of the maps."""
        return torch.cat(
            [
                self._resize(features, stride / self.outstrides[0])
                for features, stride in zip(maps, self.instrides, strict=True)
            ],
            dim=1,
        )

    @staticmethod
    def _resize(features: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return features
        return nn.functional.interpolate(features, scale_factor=scale, mode="bilinear", align_corners=True)
