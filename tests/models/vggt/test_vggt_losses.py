"""Training losses against recorded values, and the rules around them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_vggt import TINY_SPEC
from torch import Tensor

from vla.models.vggt import VGGT
from vla.models.vggt.losses import (
    SceneTargets,
    VGGTLossSpec,
    camera_loss,
    depth_loss,
    normalize_targets,
    point_loss,
    vggt_loss,
)

TOLERANCE = 2e-5
PREDICTIONS = ("pose_enc_list", "depth", "depth_conf", "world_points", "world_points_conf")
SPEC = VGGTLossSpec()


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Tensor]:
    return load_file(golden_dir / "vggt_loss.safetensors")


@pytest.fixture(scope="module")
def targets(golden: dict[str, Tensor]) -> SceneTargets:
    names = ("extrinsics", "intrinsics", "depths", "world_points", "point_masks")
    return SceneTargets(*(golden[f"input.batch.{name}"] for name in names))


@pytest.fixture(scope="module")
def predictions(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: golden[f"input.pred.{name}"] for name in PREDICTIONS}


def assert_case(losses: dict[str, Tensor], golden: dict[str, Tensor], case: str) -> None:
    prefix = f"output.{case}."
    expected = {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, atol=TOLERANCE, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_target_normalisation(golden: dict[str, Tensor], targets: SceneTargets, assert_close) -> None:
    normalised = normalize_targets(targets)
    for name in ("extrinsics", "depths", "world_points"):
        assert_close(getattr(normalised, name), golden[f"output.norm.{name}"], TOLERANCE)
    identity = torch.eye(3, 4).expand(2, -1, -1)
    assert_close(normalised.extrinsics[:, 0], identity, 1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_camera(golden: dict[str, Tensor], targets: SceneTargets, predictions: dict[str, Tensor], norm: str) -> None:
    losses = camera_loss(predictions["pose_enc_list"], targets, replace(SPEC, camera_norm=norm))
    assert_case(losses, golden, f"camera_{norm}")


def test_camera_skips_scenes_with_an_empty_first_frame(golden, targets, predictions) -> None:
    masks = torch.cat((golden["input.batch2.point_masks_first"], targets.masks[:, 1:]), dim=1)
    losses = camera_loss(predictions["pose_enc_list"], targets._replace(masks=masks))
    assert_case(losses, golden, "camera_l1_invalid0")


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("depth_grad_q98", {}),
        ("depth_gradconf_noq", {"depth_gradient": "grad_conf", "valid_quantile": None}),
    ],
)
def test_depth(golden, targets, predictions, case: str, change: dict) -> None:
    losses = depth_loss(predictions["depth"], predictions["depth_conf"], targets, replace(SPEC, **change))
    assert_case(losses, golden, case)


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("point_normal_q98", {}),
        ("point_none_noq", {"point_gradient": "none", "valid_quantile": None}),
    ],
)
def test_points(golden, targets, predictions, case: str, change: dict) -> None:
    spec = replace(SPEC, **change)
    losses = point_loss(predictions["world_points"], predictions["world_points_conf"], targets, spec)
    assert_case(losses, golden, case)


def test_objective(golden, targets, predictions) -> None:
    losses = vggt_loss(predictions, targets, replace(SPEC, point_weight=1.0))
    assert_case(losses, golden, "multitask")


def test_a_zero_weight_needs_no_prediction(targets, predictions) -> None:
    losses = vggt_loss({"pose_enc_list": predictions["pose_enc_list"]}, targets, replace(SPEC, depth_weight=0.0))
    torch.testing.assert_close(losses["objective"], 5.0 * losses["loss_camera"])
    with pytest.raises(ValueError, match="zero"):
        vggt_loss(predictions, targets, replace(SPEC, camera_weight=0.0, depth_weight=0.0))


def test_without_valid_pixels_the_loss_is_a_zero_with_a_gradient(targets, predictions) -> None:
    empty = targets._replace(masks=torch.zeros_like(targets.masks))
    inputs = {name: value.clone().requires_grad_() for name, value in predictions.items()}
    losses = vggt_loss(inputs, empty, replace(SPEC, point_weight=1.0))
    assert losses["objective"].item() == 0.0
    losses["objective"].backward()
    assert all(value.grad is not None and not value.grad.any() for value in inputs.values())


def test_non_finite_targets_do_not_spoil_the_loss(targets, predictions) -> None:
    depths = targets.depths.clone()
    depths[0, 0, :2] = float("nan")
    losses = depth_loss(predictions["depth"], predictions["depth_conf"], targets._replace(depths=depths))
    assert all(value.isfinite() for value in losses.values())


def test_a_perfect_prediction_beats_others(targets, predictions) -> None:
    perfect = depth_loss(targets.depths.unsqueeze(-1), predictions["depth_conf"], targets)
    assert perfect["loss_reg_depth"].item() == perfect["loss_grad_depth"].item() == 0.0
    points = point_loss(targets.world_points, predictions["world_points_conf"], targets)
    assert points["loss_grad_point"].item() == pytest.approx(0.0, abs=1e-5)


def test_training_lowers_the_objective() -> None:
    torch.manual_seed(0)
    model = VGGT(TINY_SPEC)
    images = torch.rand(1, 2, 3, 28, 28)
    extrinsics = torch.eye(3, 4).expand(1, 2, -1, -1).clone()
    extrinsics[0, 1, 0, 3] = 0.5
    intrinsics = torch.tensor([[30.0, 0, 14], [0, 30.0, 14], [0, 0, 1]]).expand(1, 2, -1, -1)
    shape = (1, 2, 28, 28)
    points = torch.rand(*shape, 3) + 1
    targets = SceneTargets(extrinsics, intrinsics, points[..., 2], points, torch.ones(shape, dtype=torch.bool))
    targets = normalize_targets(targets)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    spec = replace(SPEC, point_weight=1.0)
    objectives = []
    for _ in range(8):
        loss = vggt_loss(model(images), targets, spec)["objective"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objectives.append(loss.item())
    assert objectives[-1] < 0.8 * objectives[0]
