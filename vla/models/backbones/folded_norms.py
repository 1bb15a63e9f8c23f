"""Convolutions that take the scale of the norm behind them into their weights, where nothing learns.

A norm in evaluation mode is a factor and an offset for each channel. As part of the convolution's weights and bias it
costs nothing, where by itself it reads and writes the whole map: a third of what a frozen EfficientNet takes on a CPU.
Weights are folded in every pass (they are few, beside a map), so that nothing has to be kept in step with them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def fold_norms(stages: Any) -> None:
    """Make the blocks of timm's EfficientNet (`stages`, changed in place) fold their norms. Parameters' names stay."""
    from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual

    for stage in stages:
        for block in stage:
            kind = type(block)
            if kind in (DepthwiseSeparableConv, InvertedResidual):  # the blocks of EfficientNets
                block.__class__ = _folding(kind)


def convolve(convolution: Any, norm: Any, x: Tensor) -> Tensor:
    """`norm(convolution(x))`: [B, C, H, W] -> [B, D, H', W'].

    Args:
        convolution: an `nn.Conv2d`.
        norm: timm's norm with an activation.
        x: the map.
    """
    if torch.is_grad_enabled() or norm.training:
        return norm(convolution(x))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    offset = norm.bias - norm.running_mean * scale
    if convolution.bias is not None:
        offset = offset + convolution.bias * scale
    folded = {"weight": convolution.weight * scale[:, None, None, None], "bias": offset}
    return norm.act(norm.drop(functional_call(convolution, folded, x)))


class _Folding:
    def forward(self: Any, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(x)  # type: ignore[misc]
        out, convolution = x, None
        for part in self.children():  # in the order in which timm's blocks run them
            if isinstance(part, nn.Conv2d):
                convolution = part
            elif isinstance(part, nn.BatchNorm2d):
                out = convolve(convolution, part, out)
            else:
                out = part(out)
        return out + x if self.has_skip else out


_KINDS: dict[type, type] = {}


def _folding(kind: type) -> type:
    if kind not in _KINDS:
        _KINDS[kind] = type(f"Folding{kind.__name__}", (_Folding, kind), {})
    return _KINDS[kind]
