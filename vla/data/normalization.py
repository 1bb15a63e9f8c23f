"""Normalisation of actions and robot states to about [-1, 1], and back."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla.data.statistics import ArrayStatistics

Values = TypeVar("Values", Tensor, NDArray[np.float32])

TINY = 1e-8  # a spread below this is rounding: the dimension counts as constant


RULES = ("exact", "openvla", "openvla_oft")
_OPENVLA_EPSILON = 1e-8  # added to a published spread before anything is divided by it


class _Terms(NamedTuple):
    """normalised = (value - offset) / divisor - shift; value = normalised * factor + base. Each [D]."""

    offset: Any
    divisor: Any
    shift: Any
    factor: Any
    base: Any
    zeroed: Any  # bool; dimensions whose normalised value is 0
    fixed: Any  # bool; dimensions that come back as `base`, whatever their normalised value
    kept: Any  # bool; dimensions that are never scaled or clipped


@dataclass(frozen=True)
class Normalizer:
    """Scales the last dimension of float arrays or tensors.

    | method     | normalised value                                                     | outside |
    |------------|----------------------------------------------------------------------|---------|
    | none       | the value                                                            | kept    |
    | bounds     | min -> -1, max -> +1                                                 | clipped |
    | bounds_q99 | 1st percentile -> -1, 99th -> +1 (OpenVLA)                           | clipped |
    | mean_std   | (value - mean) / std                                                 | kept    |

    By the rule `exact` a constant dimension becomes 0, and comes back as exactly its value. A dimension that is
    constant between its percentiles but not beyond them is scaled by its min and max, since clipping would lose all of
    it. By the rule `openvla`, which released weights were trained with, 1e-8 is added to every spread when normalising;
    `bounds` and `bounds_q99` make dimensions with min = max 0, kept ones too; percentiles are used whatever they are.
    `openvla_oft` also adds 1e-8 on the way back.

    Args:
        method: none | bounds | bounds_q99 | mean_std.
        statistics: of the training data.
        keep: dimensions that are never scaled or clipped.
        rule: exact | openvla | openvla_oft.
    """

    method: str
    statistics: ArrayStatistics
    keep: tuple[int, ...] = ()
    rule: str = "exact"

    def normalize(self, values: Values) -> Values:
        """`values` [..., D] in stored units, to model space; float32, a new array or tensor."""
        terms = self._terms(values)
        where, clip = _namespace(values)
        scaled = (_float32(values) - terms.offset) / terms.divisor - terms.shift
        if self.method.startswith("bounds"):
            scaled = where(terms.kept, scaled, clip(scaled, -1.0, 1.0))
        return where(terms.zeroed, 0.0 * terms.base, scaled)

    def denormalize(self, values: Values) -> Values:
        """The inverse of `normalize`; values beyond [-1, 1] are extrapolated."""
        terms = self._terms(values)
        where, _ = _namespace(values)
        return where(terms.fixed, terms.base, _float32(values) * terms.factor + terms.base)

    @cached_property
    def _columns(self) -> _Terms:
        """Terms as float32 and bool arrays [D]."""
        if self.method not in ("none", "bounds", "bounds_q99", "mean_std"):
            raise ValueError(f"normalization: unknown method {self.method!r}")
        if self.rule not in RULES:
            raise ValueError(f"normalization_rule: must be one of {', '.join(RULES)}, got {self.rule!r}")
        names = ("min", "max", "mean", "std", "q01", "q99")
        stats = {name: np.array(getattr(self.statistics, name), dtype=np.float64) for name in names}
        kept = np.isin(np.arange(len(self.statistics)), self.keep) | (self.method == "none")
        return (
            _exact(self.method, stats, kept) if self.rule == "exact" else _openvla(self.method, stats, kept, self.rule)
        )

    def _terms(self, values: Values) -> _Terms:
        if values.shape[-1] != len(self.statistics):
            raise ValueError(f"expected {len(self.statistics)} values in the last dimension, got {values.shape[-1]}")
        if isinstance(values, Tensor):
            return _Terms(*(torch.from_numpy(column).to(values.device) for column in self._columns))
        return self._columns


def _exact(method: str, stats: dict[str, NDArray], kept: NDArray) -> _Terms:
    low, high = stats["min"], stats["max"]
    constant = high - low <= TINY * np.maximum(1.0, np.abs(low))
    if method == "mean_std":
        constant |= stats["std"] <= TINY
        center, scale = stats["mean"], stats["std"]
    else:
        if method == "bounds_q99":
            usable = stats["q99"] - stats["q01"] > TINY
            low, high = np.where(usable, stats["q01"], low), np.where(usable, stats["q99"], high)
        center, scale = (low + high) / 2, (high - low) / 2
    constant &= ~kept
    center = np.where(constant, stats["min"], np.where(kept, 0.0, center))
    scale = np.where(constant | kept, 1.0, scale)
    return _as_terms(center, scale, 0.0, scale, center, constant, constant, kept)


def _openvla(method: str, stats: dict[str, NDArray], kept: NDArray, rule: str) -> _Terms:
    back = _OPENVLA_EPSILON if rule == "openvla_oft" else 0.0
    zeroed = np.zeros_like(kept)
    if method == "mean_std":
        offset, divisor, shift = stats["mean"], stats["std"] + _OPENVLA_EPSILON, 0.0
        factor, base = stats["std"] + back, stats["mean"]
    else:
        low, high = (stats["q01"], stats["q99"]) if method == "bounds_q99" else (stats["min"], stats["max"])
        offset, divisor, shift = low, (high - low + _OPENVLA_EPSILON) / 2, 1.0
        factor = (high - low + back) / 2
        base = low + factor
        zeroed = (stats["min"] == stats["max"]) & (method != "none")
    offset, base = np.where(kept, 0.0, offset), np.where(kept, 0.0, base)
    divisor, factor = np.where(kept, 1.0, divisor), np.where(kept, 1.0, factor)
    return _as_terms(offset, divisor, np.where(kept, 0.0, shift), factor, base, zeroed, np.zeros_like(kept), kept)


def _as_terms(*columns: Any) -> _Terms:
    """Floats as float32, all of one shape."""
    size = np.shape(columns[-1])
    return _Terms(
        *(np.broadcast_to(c, size).astype(bool if np.asarray(c).dtype == bool else np.float32) for c in columns)
    )


def _namespace(values: Values) -> tuple:
    return (torch.where, torch.clamp) if isinstance(values, Tensor) else (np.where, np.clip)


def _float32(values: Values) -> Values:
    return values.float() if isinstance(values, Tensor) else values.astype(np.float32)
