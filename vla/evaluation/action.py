"""Errors of predicted robot actions against demonstrated ones. A = action dimensions, the gripper last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

READABLE = {"m": ("mm", 1000.0), "rad": ("°", 180.0 / math.pi)}  # control steps move millimetres and degrees


def readable_units(units: Sequence[str]) -> list[tuple[str, float]]:
    """Per dimension, the unit in which people read it, and the factor to get there: "m" -> ("mm", 1000.0)."""
    return [READABLE.get(unit, (unit, 1.0)) for unit in units]


def masked_l1(predicted: Tensor, demonstrated: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error per dimension.

    Args:
        predicted, demonstrated: [..., A].
        mask: bool [...]; False where there is nothing to compare with.

    Returns:
        [A]; NaN if nothing is left.
    """
    error = (predicted - demonstrated).abs() * mask.unsqueeze(-1)
    return error.flatten(0, -2).sum(0) / mask.sum()


def gripper_accuracy(predicted: Tensor, demonstrated: Tensor, mask: Tensor) -> Tensor:
    """Share of steps at which the signs of the gripper commands agree (-1 open, +1 closed; 0 counts as open).

    Args:
        predicted, demonstrated: [..., A] in model space or in physical units.
        mask: bool [...].
    """
    agrees = (predicted[..., -1] > 0) == (demonstrated[..., -1] > 0)
    return (agrees & mask).sum() / mask.sum()


@dataclass(frozen=True)
class ActionSpace:
    """Names and units of the action dimensions, the gripper last."""

    names: tuple[str, ...]
    units: tuple[str, ...]

    def readable(self, actions: Tensor) -> Tensor:
        """Actions [..., A] from `units` to readable ones (`readable_units`)."""
        return actions * actions.new_tensor([factor for _, factor in readable_units(self.units)])

    @property
    def readable_units(self) -> list[str]:
        """Unit of every dimension of `readable`."""
        return [unit for unit, _ in readable_units(self.units)]


def action_metrics(space: ActionSpace, predicted: Tensor, demonstrated: Tensor, baseline: Tensor) -> dict[str, Any]:
    """Everything that an open-loop evaluation says about actions.

    Args:
        predicted, demonstrated: [N, A], physical units of `space`.
        baseline: [A], the constant action that any policy should beat: the mean of the training data.

    Returns:
        `dimensions`: name, unit, l1 and l1_baseline of every dimension but the gripper; `translation_l1` and
        `rotation_l1`, means over the dimensions in mm and in degrees; `gripper_accuracy`; each with `_baseline`.
        The gripper's baseline is the better of always open and always closed.
    """
    everything = torch.ones(len(demonstrated), dtype=torch.bool, device=demonstrated.device)
    target = space.readable(demonstrated.double())
    l1 = masked_l1(space.readable(predicted.double()), target, everything)
    l1_baseline = masked_l1(space.readable(baseline.double()).expand_as(target), target, everything)
    dimensions: list[dict[str, Any]] = [
        {"name": name, "unit": unit, "l1": l1[i].item(), "l1_baseline": l1_baseline[i].item()}
        for i, (name, unit) in enumerate(zip(space.names[:-1], space.readable_units, strict=False))
    ]
    closed = (demonstrated[:, -1] > 0).double().mean()
    metrics: dict[str, Any] = {
        "num_actions": len(demonstrated),
        "dimensions": dimensions,
        "gripper_accuracy": gripper_accuracy(predicted, demonstrated, everything).item(),
        "gripper_accuracy_baseline": torch.maximum(closed, 1 - closed).item(),
    }
    for key, unit in (("translation_l1", "mm"), ("rotation_l1", "°")):
        chosen = [row for row in dimensions if row["unit"] == unit]
        if chosen:
            metrics[key] = sum(row["l1"] for row in chosen) / len(chosen)
            metrics[f"{key}_baseline"] = sum(row["l1_baseline"] for row in chosen) / len(chosen)
    return metrics
