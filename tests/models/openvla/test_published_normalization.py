"""Normalisation and its inverse by OpenVLA's rules."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vla.data.normalization import Normalizer
from vla.data.statistics import ArrayStatistics

METHODS = {"normal": "mean_std", "bounds": "bounds", "bounds_q99": "bounds_q99"}


def statistics(values: dict[str, Any]) -> ArrayStatistics:
    """Statistics of a golden case, which leaves some out."""
    size = len(values["q01"])
    names = ("min", "max", "mean", "std", "q01", "q99")
    return ArrayStatistics(**{name: tuple(values.get(name, np.linspace(0, 1, size))) for name in names}, count=1)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("kind", ["action", "proprio"])
def test_published_normalisation(golden: Callable[[str], Any], number: int, kind: str) -> None:
    cases = golden("rlds_transforms")["normalize"]
    case, first = cases[number], cases[0]  # statistics and inputs stand in the first one only
    mask = case["action_mask"] if kind == "action" and case["action_mask"] else [True]
    keep = tuple(int(i) for i in np.flatnonzero(~np.array(mask)))
    normalizer = Normalizer(METHODS[case["type"]], statistics(first["stats"][kind]), keep, "openvla")
    values = np.array(first[f"{kind}_in"], dtype=np.float32)
    expected = np.array(case[f"{kind}_out"], dtype=np.float32)
    assert np.allclose(normalizer.normalize(values), expected, rtol=0, atol=1e-6)
    assert np.allclose(normalizer.normalize(torch.from_numpy(values)).numpy(), expected, rtol=0, atol=1e-6)


def test_published_statistics(golden: Callable[[str], Any]) -> None:
    case = golden("rlds_transforms")["normalize"][0]
    found = ArrayStatistics.of(np.array(case["all_actions_for_stats"], dtype=np.float32))
    for name, expected in case["stats"]["action"].items():
        assert np.allclose(getattr(found, name), expected, atol=1e-6), name


@pytest.mark.parametrize(("rule", "key"), [("openvla", "actions_openvla"), ("openvla_oft", "actions_oft")])
@pytest.mark.parametrize("number", [0, 1])
def test_published_inverse(golden: Callable[[str], Any], number: int, rule: str, key: str) -> None:
    case = golden("unnormalize")["cases"][number]
    mask = np.array(case["stats"].get("mask", [True] * 7))
    normalizer = Normalizer("bounds_q99", statistics(case["stats"]), tuple(np.flatnonzero(~mask).tolist()), rule)
    found = normalizer.denormalize(np.array(case["normalized"]))
    assert np.allclose(found, case[key], rtol=0, atol=2e-7)


def test_degenerate_dimensions() -> None:
    """A constant becomes 0, even where it is kept; equal percentiles leave only the sign."""
    data = np.stack([np.full(1001, 0.3), np.where(np.arange(1001) == 500, 4.0, 2.0), np.full(1001, 1.0)], axis=1)
    data = data.astype(np.float32)
    published = Normalizer("bounds_q99", ArrayStatistics.of(data), (2,), "openvla")
    assert published.normalize(data)[[0, 500]].tolist() == [[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]]
    back = published.denormalize(np.zeros((1, 3), dtype=np.float32))
    assert np.allclose(back, [[0.3, 2.0, 0.0]])
    exact = Normalizer("bounds_q99", ArrayStatistics.of(data), (2,))
    assert exact.normalize(data)[[0, 500]].tolist() == [[0.0, -1.0, 1.0], [0.0, 1.0, 1.0]]


def test_unknown_rule() -> None:
    data = np.zeros((2, 1), dtype=np.float32)
    with pytest.raises(ValueError, match="normalization_rule: must be one of exact, openvla, openvla_oft, got 'x'"):
        Normalizer("bounds", ArrayStatistics.of(data), rule="x").normalize(data)
