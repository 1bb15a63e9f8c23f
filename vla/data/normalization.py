"""Normalisation of actions and robot states to about [-1, 1], and back."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla.data.statistics import ArrayStatistics

Values = TypeVar("Values", Tensor, NDArray[np.float32])

TINY = 1e-8  # a spread below this is rounding: the dimension counts as constant


@dataclass(frozen=True)
class Normalizer:
    """Scales the last dimension of float arrays or tensors.

    | method     | normalised value                                                     | outside |
    |------------|----------------------------------------------------------------------|---------|
    | none       | the value                                                            | kept    |
    | bounds     | min -> -1, max -> +1                                                 | clipped |
    | bounds_q99 | 1st percentile -> -1, 99th -> +1 (OpenVLA)                           | clipped |
    | mean_std   | (value - mean) / std                                                 | kept    |

    A constant dimension becomes 0, and comes back as exactly its value. A dimension that is constant between its
    percentiles but not beyond them is scaled by its min and max, since clipping would lose all of it.

    Args:
        method: none | bounds | bounds_q99 | mean_std.
        statistics: of the training data.
        keep: dimensions that are never scaled or clipped.
    """

    method: str
    statistics: ArrayStatistics
    keep: tuple[int, ...] = ()

    def normalize(self, values: Values) -> Values:
        """`values` [..., D] in stored units, to model space; float32, a new array or tensor."""
        center, scale, constant, keep = self._terms(values)
        where, clip = _namespace(values)
        scaled = (_float32(values) - center) / scale
        if self.method.startswith("bounds"):
            scaled = where(keep, scaled, clip(scaled, -1.0, 1.0))
        return where(constant, 0.0 * center, scaled)

    def denormalize(self, values: Values) -> Values:
        """The inverse of `normalize`; values beyond [-1, 1] are extrapolated."""
        center, scale, constant, _ = self._terms(values)
        where, _ = _namespace(values)
        return where(constant, center, _float32(values) * scale + center)

    @cached_property
    def _columns(self) -> tuple[NDArray, ...]:
        """Center, scale (float32 [D]), constant and kept dimensions (bool [D])."""
        stats = {name: np.array(getattr(self.statistics, name)) for name in ("min", "max", "mean", "std", "q01", "q99")}
        low, high = stats["min"], stats["max"]
        constant = high - low <= TINY * np.maximum(1.0, np.abs(low))
        if self.method == "none":
            center, scale = np.zeros_like(low), np.ones_like(low)
        elif self.method == "mean_std":
            constant |= stats["std"] <= TINY
            center, scale = stats["mean"], stats["std"]
        elif self.method in ("bounds", "bounds_q99"):
            if self.method == "bounds_q99":
                usable = stats["q99"] - stats["q01"] > TINY
                low, high = np.where(usable, stats["q01"], low), np.where(usable, stats["q99"], high)
            center, scale = (low + high) / 2, (high - low) / 2
        else:
            raise ValueError(f"normalization: unknown method {self.method!r}")
        kept = np.isin(np.arange(len(low)), self.keep)
        constant &= ~kept & (self.method != "none")
        center = np.where(constant, stats["min"], np.where(kept, 0.0, center))
        scale = np.where(constant | kept, 1.0, scale)
        return center.astype(np.float32), scale.astype(np.float32), constant, kept

    def _terms(self, values: Values) -> tuple:
        if values.shape[-1] != len(self.statistics):
            raise ValueError(f"expected {len(self.statistics)} values in the last dimension, got {values.shape[-1]}")
        if isinstance(values, Tensor):
            return tuple(torch.from_numpy(column).to(values.device) for column in self._columns)
        return self._columns


def _namespace(values: Values) -> tuple:
    return (torch.where, torch.clamp) if isinstance(values, Tensor) else (np.where, np.clip)


def _float32(values: Values) -> Values:
    return values.float() if isinstance(values, Tensor) else values.astype(np.float32)
