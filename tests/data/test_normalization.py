"""Normalisation: known values, round trips, constant dimensions, and the gripper that is never scaled."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.data.normalization import Normalizer
from vla.data.statistics import ArrayStatistics

METHODS = ("none", "bounds", "bounds_q99", "mean_std")
values = arrays(np.float32, st.tuples(st.integers(2, 30), st.just(4)), elements=st.floats(-1000, 1000, width=32))


def ramp() -> np.ndarray:
    """[101, 3]: 0..100, a constant, and a dimension that leaves its constant once."""
    column = np.arange(101, dtype=np.float32)
    return np.stack([column, np.full(101, 0.3, dtype=np.float32), np.where(column == 50, 4.0, 2.0)], axis=1).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("method", "low", "high"), [("bounds", -1.0, 1.0), ("bounds_q99", -1.0, 1.0), ("none", 0.0, 100.0)]
)
def test_ends_of_the_range(method: str, low: float, high: float) -> None:
    normalizer = Normalizer(method, ArrayStatistics.of(ramp()))
    normalized = normalizer.normalize(ramp())
    assert (normalized[0, 0], normalized[-1, 0]) == (low, high)


def test_bounds_q99_is_openvlas() -> None:
    normalized = Normalizer("bounds_q99", ArrayStatistics.of(ramp())).normalize(ramp())[:, 0]
    q01, q99 = np.quantile(np.arange(101), [0.01, 0.99])
    assert np.allclose(normalized, np.clip(2 * (np.arange(101) - q01) / (q99 - q01) - 1, -1, 1), atol=1e-6)


def test_mean_std() -> None:
    normalized = Normalizer("mean_std", ArrayStatistics.of(ramp())).normalize(ramp())[:, 0]
    assert (normalized.mean(), normalized.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


@pytest.mark.parametrize("method", METHODS[1:])
def test_constant_becomes_zero_and_comes_back_exactly(method: str) -> None:
    normalizer = Normalizer(method, ArrayStatistics.of(ramp()))
    other = np.array([[1.0, 7.0, 2.0]], dtype=np.float32)
    assert normalizer.normalize(other)[0, 1] == 0
    assert normalizer.denormalize(np.array([[0.5, 0.5, 0.5]], dtype=np.float32))[0, 1] == np.float32(0.3)


def test_dimension_that_is_constant_between_its_percentiles_is_not_lost() -> None:
    normalizer = Normalizer("bounds_q99", ArrayStatistics.of(ramp()))
    assert set(normalizer.normalize(ramp())[:, 2].tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("method", METHODS)
def test_kept_dimensions_are_left_alone(method: str) -> None:
    data = ramp()
    normalizer = Normalizer(method, ArrayStatistics.of(data), keep=(1, 2))
    assert np.array_equal(normalizer.normalize(data)[:, 1:], data[:, 1:])
    assert np.array_equal(normalizer.denormalize(data)[:, 1:], data[:, 1:])


@pytest.mark.parametrize("method", METHODS)
@given(data=values)
def test_round_trip_inside_the_bounds(method: str, data: np.ndarray) -> None:
    statistics = ArrayStatistics.of(data)
    normalizer = Normalizer(method, statistics)
    inside = np.clip(data, statistics.q01, statistics.q99).astype(np.float32) if method == "bounds_q99" else data
    normalized = normalizer.normalize(inside)
    assert np.isfinite(normalized).all()
    if method.startswith("bounds"):
        assert np.abs(normalized).max() <= 1
    spread = np.abs(data).max() + 1
    assert np.allclose(normalizer.denormalize(normalized), inside, atol=2e-6 * spread)


@pytest.mark.parametrize("method", METHODS)
@given(data=values)
def test_arrays_and_tensors_agree(method: str, data: np.ndarray) -> None:
    normalizer = Normalizer(method, ArrayStatistics.of(data), keep=(3,))
    tensor = torch.from_numpy(data)[None]
    for function in (normalizer.normalize, normalizer.denormalize):
        assert np.array_equal(function(tensor)[0].numpy(), function(data))


def test_input_is_not_changed_and_output_is_float32() -> None:
    data = ramp().astype(np.float64)
    normalizer = Normalizer("bounds", ArrayStatistics.of(data))
    assert normalizer.normalize(data).dtype == np.float32
    assert normalizer.denormalize(torch.from_numpy(data).bfloat16()).dtype == torch.float32
    assert np.array_equal(data, ramp())


def test_wrong_number_of_dimensions() -> None:
    with pytest.raises(ValueError, match="expected 3 values in the last dimension, got 2"):
        Normalizer("bounds", ArrayStatistics.of(ramp())).normalize(np.zeros((5, 2)))


def test_unknown_method() -> None:
    with pytest.raises(ValueError, match="unknown method 'minmax'"):
        Normalizer("minmax", ArrayStatistics.of(ramp())).normalize(ramp())
