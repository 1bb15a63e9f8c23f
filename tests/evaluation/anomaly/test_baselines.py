"""Patch memory and per-position statistics against their definitions."""

import pytest
import torch

from vla.evaluation.anomaly.baselines import BASELINES, PatchMemory, PositionGaussian, k_centers, to_maps


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    scale = torch.rand(1, 6, 4, 5, generator=generator) + 0.5
    return torch.randn(30, 6, 4, 5, generator=generator) * scale + scale


def test_gaussian_is_that_of_each_place(features):
    model = PositionGaussian()
    for part in features.split(7):
        model.add(part)
    model.finish()
    found = model.distances(features[:3])
    for y, x in ((0, 0), (3, 4), (2, 1)):
        values = features[:, :, y, x].double()
        covariance = torch.cov(values.T) + 0.01 * torch.eye(6)
        offset = values[:3] - values.mean(0)
        expected = torch.einsum("bc,cd,bd->b", offset, torch.linalg.inv(covariance), offset).sqrt()
        torch.testing.assert_close(found[:, y, x].double(), expected, rtol=1e-5, atol=1e-5)


def test_memory_of_everything_is_the_nearest_neighbour(features):
    model = PatchMemory(size=10**6, candidates=10**6)
    for part in features.split(7):
        model.add(part)
    model.finish()
    assert model.distances(features).abs().max() < 1e-2  # cdist by products rounds
    new = features[:2] + 3
    pooled = torch.nn.functional.avg_pool2d(torch.cat([features, new]), 3, 1, 1, count_include_pad=False)
    rows = pooled.permute(0, 2, 3, 1)
    expected = (rows[30:].reshape(-1, 1, 6) - rows[:30].reshape(1, -1, 6)).norm(dim=2).amin(1).reshape(2, 4, 5)
    torch.testing.assert_close(model.distances(new), expected, rtol=1e-3, atol=1e-3)


def test_centers_cover_the_points():
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    chosen = k_centers(points, 12)
    assert chosen[0] == 0 and len(set(chosen.tolist())) == 12
    for number in range(1, 12):
        distances = torch.cdist(points, points[chosen[:number]]).amin(1)
        assert distances[chosen[number]] == pytest.approx(float(distances.max()), abs=1e-5)
    assert k_centers(points, 500).tolist() == list(range(200))


def test_candidates_are_an_even_draw():
    model = PatchMemory(size=10**6, candidates=100)
    for number in range(10):
        model.add(torch.full((1, 1, 8, 8), float(number)))
    counts = model._patches.flatten().long().bincount(minlength=10)
    assert counts.sum() == 100 and counts.min() > 1


@pytest.mark.parametrize("name", BASELINES)
def test_finds_what_is_unlike_the_training_pictures(name, features):
    model = BASELINES[name]()
    model.add(features)
    model.finish()
    odd = features[:4].clone()
    odd[:, :, 1, 3] += 8
    place = model.distances(odd).flatten(1).argmax(1)
    near = ((place // 5 - 1).abs() <= 1) & ((place % 5 - 3).abs() <= 1)  # patches reach one place around
    assert near.all() and (name == "patch-memory" or (place == 1 * 5 + 3).all())


def test_maps_are_smooth_and_keep_their_level():
    distances = torch.zeros(1, 7, 7)
    distances[0, 3, 3] = 1
    maps = to_maps(distances, (56, 56))
    assert maps.shape == (1, 56, 56) and maps.argmax() // 56 in (27, 28) and maps.max() < 1
    torch.testing.assert_close(to_maps(torch.full((2, 4, 4), 3.0), (32, 16)), torch.full((2, 32, 16), 3.0))
    torch.testing.assert_close(to_maps(distances, (7, 7), sigma=0), distances)
