import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.evaluation.success_rates import success_rate, wilson_interval


# Wilson score intervals at 95 %, as statistics packages give them (R: prop.test without correction).
@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (5, 10, 0.23659, 0.76341),
        (1, 400, 0.000441, 0.014026),
        (190, 200, 0.910417, 0.972614),
        (81, 263, 0.255289, 0.366213),
    ],
)
def test_interval_has_known_values(successes, episodes, low, high):
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=2e-5)


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_rate_and_mirrors(counts):
    successes, episodes = counts
    low, high = wilson_interval(successes, episodes)
    assert 0.0 <= low < high <= 1.0
    if episodes:
        assert low <= successes / episodes <= high
    assert wilson_interval(episodes - successes, episodes) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_interval_refuses_impossible_counts():
    with pytest.raises(ValueError, match=r"successes: must be in \[0, 3\], got 4"):
        wilson_interval(4, 3)


def test_errors_are_counted_apart():
    rate = success_rate([("success", "a", 10), ("success", "a", 20), ("failure", "b", 280), ("error", "c", 0)])
    assert (rate.successes, rate.episodes, rate.errors) == (2, 3, 1)
    assert rate.rate == pytest.approx(2 / 3)
    assert rate.distinct_initial_states == 2  # the same state twice says less than two states
    assert rate.mean_steps == 15


def test_nothing_finished_is_no_rate():
    rate = success_rate([("error", "a", 0)])
    assert math.isnan(rate.rate)
    assert rate.to_dict()["rate"] is None
    assert rate.interval == (0.0, 1.0)
