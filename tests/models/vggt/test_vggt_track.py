"""
The tracking head against recorded outputs.

The recorded network amplifies a change of one unit in the last place about thirty-fold per step (it encodes
displacements with frequencies up to 1000), so later steps are compared from the recorded positions instead of from our
own.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vla.models.vggt import VGGT
from vla.models.vggt.track_features import correlate, feature_pyramid, sample_points, window_offsets

TOLERANCE = 2e-5
Golden = dict[str, Tensor]


@pytest.fixture
def tokens(dev_track: Golden) -> dict[int, Tensor]:
    return {layer: dev_track[f"input.tokens.{layer}"] for layer in range(4)}


@torch.no_grad()
def test_feature_extractor(model: VGGT, dev_track: Golden, tokens: dict[int, Tensor], assert_close) -> None:
    image_size = tuple(dev_track["input.images_shape"].tolist()[-2:])
    maps = model.track_head.feature_extractor(tokens, int(dev_track["input.patch_start_idx"]), image_size)
    assert_close(maps, dev_track["output.feature_maps"], TOLERANCE)


@torch.no_grad()
def test_first_step(model: VGGT, dev_track: Golden, tokens: dict[int, Tensor], assert_close) -> None:
    image_size = tuple(dev_track["input.images_shape"].tolist()[-2:])
    out = model.track_head(tokens, 5, image_size, dev_track["input.query_points"], num_iterations=1)
    assert_close(out.track_list, dev_track["output.track_list"][:1], TOLERANCE)


@torch.no_grad()
def test_every_step_from_recorded_positions(
    model: VGGT, dev_track: Golden, assert_close, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = model.track_head.tracker
    recorded = dev_track["output.track_list"]
    query = dev_track["input.query_points"]
    start = query.unsqueeze(1).expand_as(recorded[0])
    positions = iter([start, *recorded])
    steps: list[Tensor] = []
    update = tracker._update

    def update_from_recorded(pyramid, features, coords, constant):
        coords = next(positions) / 2
        move, change = update(pyramid, features, coords, constant)
        steps.append(torch.cat((start[:, :1], 2 * (coords + move)[:, 1:]), dim=1))
        return move, change

    monkeypatch.setattr(tracker, "_update", update_from_recorded)
    out = tracker(query, dev_track["output.feature_maps"])
    assert_close(torch.stack(steps), recorded, TOLERANCE)
    assert_close(out.vis, dev_track["output.vis"], TOLERANCE)
    assert_close(out.conf, dev_track["output.conf"], TOLERANCE)


@torch.no_grad()
def test_tracks_stay_near_the_recorded_ones(model: VGGT, dev_track: Golden, assert_close) -> None:
    out = model.track_head.tracker(dev_track["input.query_points"], dev_track["output.feature_maps"])
    assert_close(out.track, dev_track["output.track"], 0.2)
    assert torch.equal(out.track[:, 0], dev_track["input.query_points"])
    assert torch.equal(out.track, out.track_list[-1])


@torch.no_grad()
def test_model_tracks_when_given_points(model: VGGT, dev: Golden, dev_track: Golden) -> None:
    out = model(dev["input.images"][:1], query_points=dev_track["input.query_points"][0], outputs=())
    assert out["track"].shape == (1, 3, 5, 2)
    assert out["vis"].shape == out["conf"].shape == (1, 3, 5)
    assert set(out) == {"track", "track_list", "vis", "conf"}


def test_sampling_at_pixel_centres() -> None:
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    coords = torch.tensor([[[0.0, 0.0], [3.0, 2.0], [1.5, 1.0], [9.0, 0.0]]])
    assert sample_points(maps, coords).flatten().tolist() == pytest.approx([0.0, 11.0, 5.5, 3.0], abs=1e-5)
    assert sample_points(maps, coords, "zeros").flatten()[-1].item() == pytest.approx(0.0, abs=1e-5)


def test_correlation_window_is_transposed() -> None:
    """The slow index of the window runs along x, as in the published weights."""
    assert window_offsets(1)[:3].tolist() == [[-1.0, -1.0], [-1.0, 0.0], [-1.0, 1.0]]
    maps = torch.arange(25.0).view(1, 1, 1, 5, 5)
    window = correlate(feature_pyramid(maps, 1), torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 2), 2.0), radius=1)
    assert window.flatten().tolist() == pytest.approx([6, 11, 16, 7, 12, 17, 8, 13, 18], abs=1e-4)
