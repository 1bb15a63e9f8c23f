"""Areas under curves and best scores against definitions written out over all thresholds, and worked by hand."""

import numpy as np
import pytest

from vla.evaluation.anomaly.ranking import area, auroc, average_precision, f1_max, rank


def naive(good: np.ndarray, bad: np.ndarray, weights: np.ndarray, limit: float) -> dict[str, float]:
    """Every distinct score as a threshold, one after the other."""
    thresholds = np.unique(np.concatenate([good, bad]))[::-1]
    hits = np.array([(bad >= t).sum() for t in thresholds])
    alarms = np.array([(good >= t).sum() for t in thresholds])
    rate = np.concatenate([[0], alarms / len(good)])
    recall = np.concatenate([[0], hits / len(bad)])
    gain = np.concatenate([[0], [weights[bad >= t].sum() for t in thresholds]])
    precision = hits / (hits + alarms)
    grid = np.unique(np.concatenate([rate[rate < limit], [limit]]))
    # np.interp takes one value where the curve is vertical; pieces between corners are exact
    total = 0.0
    for low, high, a, b in zip(rate[:-1], rate[1:], gain[:-1], gain[1:], strict=True):
        if high > low and low < limit:
            end = min(high, limit)
            at_end = a + (b - a) * (end - low) / (high - low)
            total += (end - low) * (a + at_end) / 2
    assert len(grid)
    return {
        "auroc": float(np.trapezoid(recall, rate)),
        "ap": float((np.diff(recall) * precision).sum()),
        "f1": float((2 * hits / (hits + alarms + len(bad))).max()),
        "area": total / limit,
    }


@pytest.mark.parametrize("levels", [3, 12, 10**6])
@pytest.mark.parametrize("limit", [0.3, 1.0])
def test_against_all_thresholds(levels, limit):
    for seed in range(20):
        generator = np.random.default_rng((seed, levels))
        sizes = generator.integers(1, 60, 2)
        good = (generator.integers(0, levels, sizes[0]) / levels).astype(np.float32)
        bad = (generator.integers(0, levels, sizes[1]) / levels + 0.1 * generator.random()).astype(np.float32)
        weights = generator.random(sizes[1])
        weights /= weights.sum()
        expected = naive(good, bad, weights, limit)
        plain, weighted = rank(good, bad), rank(good, bad, weights)
        assert auroc(plain) == auroc(weighted) == pytest.approx(expected["auroc"], abs=1e-12)
        assert area(plain) == pytest.approx(expected["auroc"], abs=1e-12)
        assert average_precision(plain) == pytest.approx(expected["ap"], abs=1e-12)
        assert f1_max(plain) == pytest.approx(expected["f1"], abs=1e-12)
        assert area(weighted, limit) == pytest.approx(expected["area"], abs=1e-12)


def test_by_hand():
    """Bad ones at 4 and 2, good ones at 3, 2 and 1."""
    ranking = rank(np.array([1.0, 3.0, 2.0]), np.array([2.0, 4.0]))
    assert auroc(ranking) == pytest.approx((3 + 1.5) / 6)
    assert average_precision(ranking) == pytest.approx((1 + 2 / 4) / 2)
    assert f1_max(ranking) == pytest.approx(2 * 1 / (1 + 0 + 2))
    # level at 1/2 up to a third of false alarms, then a straight line to (2/3, 1)
    assert area(ranking, 0.5) == pytest.approx((0.5 / 3 + (0.5 + 0.75) / 2 / 6) / 0.5)


def test_no_difference_and_a_perfect_one():
    same = rank(np.ones(5), np.ones(3))
    assert auroc(same) == 0.5 and average_precision(same) == 3 / 8 and area(same, 0.3) == pytest.approx(0.15)
    perfect = rank(np.zeros(5), np.ones(3))
    assert auroc(perfect) == average_precision(perfect) == f1_max(perfect) == 1 == area(perfect, 0.3)
    worst = rank(np.ones(5), np.zeros(3))
    assert auroc(worst) == 0 == area(worst, 0.3)


def test_scikit_learn_agrees():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    good = generator.normal(size=3000).round(2).astype(np.float32)
    bad = generator.normal(0.7, size=400).round(2).astype(np.float32)
    scores, labels = np.concatenate([good, bad]), np.repeat([0, 1], [3000, 400])
    ranking = rank(good, bad)
    assert auroc(ranking) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(ranking) == pytest.approx(metrics.average_precision_score(labels, scores), abs=1e-12)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert f1_max(ranking) == pytest.approx(f1.max(), abs=1e-12)
