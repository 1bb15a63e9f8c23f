"""Metrics of a watcher by values that were computed by hand."""

import pytest

from vla.evaluation.detection import Detection, FalseAlarms, Watched, detection, false_alarms

STEPS = (0, 8, 16, 24)


def test_false_alarms_of_episodes_and_frames() -> None:
    normal = [Watched(STEPS, (0.1, 0.2, 0.9, 0.3)), Watched(STEPS, (0.1, 0.1, 0.5, 0.1)), Watched((), ())]
    assert false_alarms(normal, 0.5) == FalseAlarms(2, 8, 1 / 2, 1 / 8)  # equal to the threshold is no alarm
    assert false_alarms([], 0.5) == FalseAlarms(0, 0, None, None)


def test_detection_by_hand() -> None:
    normal = {
        "a": Watched(STEPS, (0.0, 0.1, 0.2, 0.3)),
        "b": Watched(STEPS, (0.0, 0.9, 0.4, 0.6)),
        "c": Watched(STEPS, (0.0, 0.1, 0.1, 0.1)),
        "d": Watched(STEPS, (0.0, 0.1, 0.1, 0.1)),
    }
    faulty = {
        "a": Watched((*STEPS, 32), (0.0, 0.1, 0.25, 0.8, 0.2), onset=10),  # noticed at 24: 14 steps
        "b": Watched(STEPS, (0.0, 0.9, 0.5, 0.3), onset=16),  # never since; but an alarm before
        "c": Watched((0, 8), (0.0, 0.9), onset=None),  # was over before the fault
        "d": Watched(STEPS, (0.0, 0.1, 0.7, 0.9), onset=16),  # noticed at once
    }
    found = detection(faulty, normal, threshold=0.6)
    # With it: a .25 .8 .2, b .5 .3, d .7 .9; without, from the same step: a .2 .3, b .4 .6, d .1 .1 (42 pairs)
    wins = {0.25: 3, 0.8: 6, 0.2: 2.5, 0.5: 5, 0.3: 3.5, 0.7: 6, 0.9: 6}
    assert found == Detection(
        episodes=3, frames=7, frame_auroc=pytest.approx(sum(wins.values()) / 42),
        episode_auroc=pytest.approx((3 + 2 + 3) / 9),  # .8, .5, .9 against .3, .6, .1
        missed_share=pytest.approx(1 / 3), early_share=pytest.approx(1 / 3), median_delay=7.0,
    )  # fmt: skip


def test_fault_that_changes_nothing_gets_one_half() -> None:
    scores = {str(i): tuple((i * 7 + step) % 11 / 11 for step in STEPS) for i in range(6)}
    normal = {name: Watched(STEPS, values) for name, values in scores.items()}
    faulty = {name: Watched(STEPS, values, onset=1 + int(name) * 4) for name, values in scores.items()}
    found = detection(faulty, normal, 2.0)
    assert found.frame_auroc == found.episode_auroc == 0.5
    assert (found.missed_share, found.early_share, found.median_delay) == (1.0, 0.0, None)


def test_nothing_to_compare_is_none_and_not_nan() -> None:
    assert detection({}, {}, 0.5) == Detection(0, 0, None, None, None, None, None)
    late = {"a": Watched((0, 8), (0.1, 0.9), onset=5)}
    found = detection(late, {"a": Watched((0,), (0.1,))}, 0.5)  # the normal one was over by then
    assert (found.frame_auroc, found.missed_share, found.median_delay) == (None, 0.0, 3.0)
