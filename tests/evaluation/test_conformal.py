"""The threshold keeps its promise: exactly, for every one of the episodes that could have been the new one."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.conf.watching import PER as CONFIG_PER
from vla.evaluation.conformal import PER, conformal_threshold, episodes_needed

RATES = st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.9])
SCORES = st.lists(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=4), min_size=2, max_size=24)


def test_split_conformal_is_the_corrected_quantile() -> None:
    scores = [[float(i)] for i in range(1, 20)]  # 19 episodes of one frame
    for per in PER:
        assert conformal_threshold(scores, 0.1, per) == 18.0  # ceil(20 x 0.9)
        assert conformal_threshold(scores, 0.05, per) == 19.0
        assert conformal_threshold(scores, 0.5, per) == 10.0


def test_rates_are_the_decimals_that_were_written() -> None:
    assert conformal_threshold([[float(i)] for i in range(9)], 0.1) == 8.0  # 10 x 0.9 is 9, not a hair more
    assert conformal_threshold([[float(i)] for i in range(99)], 0.07) == 92.0  # the 93rd; 100 x (1 - 0.07) > 93


def test_an_episode_is_its_highest_frame() -> None:
    assert conformal_threshold([[1.0, 7.0], [2.0], [3.0, 0.0]], 0.25) == 7.0
    assert conformal_threshold([[1.0, 7.0], [2.0], [3.0, 0.0]], 0.5) == 3.0


def test_frames_share_the_weight_of_their_episode() -> None:
    episodes = [[0.0, 1.0, 2.0, 9.0], [5.0], [6.0]]  # weights 1/16 each, 1/4, 1/4; 1/4 is left for the new one
    assert conformal_threshold(episodes, 0.25, "frame") == 9.0
    assert conformal_threshold(episodes, 0.3, "frame") == 9.0  # 3/16 + 1/2 = 0.6875 < 0.7: needs the last sixteenth
    assert conformal_threshold(episodes, 0.32, "frame") == 6.0
    assert conformal_threshold(episodes, 0.5, "frame") == 6.0
    assert conformal_threshold(episodes, 0.6, "frame") == 5.0


@given(SCORES, RATES, st.sampled_from(PER))
def test_coverage_of_exchangeable_episodes(episodes: list[list[float]], rate: float, per: str) -> None:
    """Every episode takes its turn as the new one. That is what exchangeable means, and the mean is the probability."""
    if len(episodes) - 1 < episodes_needed(rate):
        return
    alarms = Fraction(0)
    for number, new in enumerate(episodes):
        threshold = conformal_threshold(episodes[:number] + episodes[number + 1 :], rate, per)
        above = [score > threshold for score in new]
        alarms += Fraction(any(above)) if per == "episode" else Fraction(sum(above), len(above))
    assert alarms / len(episodes) <= Fraction(str(rate))


@pytest.mark.parametrize("per", PER)
def test_coverage_of_drawn_episodes_is_neither_broken_nor_wasted(per: str) -> None:
    """Frames of an episode go up and down together, as in a rollout."""
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        rows = [
            list(generator.normal(size=1) + 0.3 * generator.normal(size=generator.integers(3, 12))) for _ in range(40)
        ]
        above = np.array(rows[-1]) > conformal_threshold(rows[:-1], 0.1, per)
        shares.append(above.any() if per == "episode" else above.mean())
    assert 0.05 < np.mean(shares) < 0.13


def test_too_few_episodes_are_refused_in_a_line() -> None:
    assert [episodes_needed(rate) for rate in (0.5, 0.1, 0.05, 0.01)] == [1, 9, 19, 99]
    for per in PER:
        with pytest.raises(ValueError, match="0.1 needs at least 9 normal episodes that were held out, got 8"):
            conformal_threshold([[0.0]] * 8, 0.1, per)
        assert conformal_threshold([[1.0]] * 9, 0.1, per) == 1.0


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match="false_alarm_rate: must be within"):
        conformal_threshold([[0.0]], 0.0)
    with pytest.raises(ValueError, match="per: must be one of episode, frame, got 'pixel'"):
        conformal_threshold([[0.0]], 0.5, "pixel")
    for bad in ([[]], [[np.nan]]):
        with pytest.raises(ValueError, match="episodes: each must have a frame, and finite scores"):
            conformal_threshold(bad, 0.5)


def test_the_configuration_knows_the_same_choices() -> None:
    assert CONFIG_PER == PER
