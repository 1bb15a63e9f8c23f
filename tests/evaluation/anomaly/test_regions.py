"""Connected regions against a flood fill, and their weights."""

import numpy as np
import pytest

from vla.evaluation.anomaly.regions import label_regions, region_weights


def flood(mask: np.ndarray) -> np.ndarray:
    labels, number = np.zeros(mask.shape, dtype=int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        number += 1
        todo = [start]
        while todo:
            y, x = todo.pop()
            if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]) or not mask[y, x] or labels[y, x]:
                continue
            labels[y, x] = number
            todo += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return labels


@pytest.mark.parametrize("density", [0.1, 0.35, 0.5, 0.8])
def test_against_a_flood_fill(density):
    for seed in range(30):
        generator = np.random.default_rng(seed)
        mask = generator.random(generator.integers(1, 16, 2)) < density
        assert np.array_equal(label_regions(mask), flood(mask))


def test_every_region_counts_once():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]], dtype=bool)
    weights, number = region_weights(mask)
    assert number == 2 and weights.tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    assert region_weights(np.zeros((3, 3), dtype=bool))[1] == 0
