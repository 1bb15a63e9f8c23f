"""VLALoss against the published one."""

import json
from pathlib import Path

import pytest
import torch

from vla.models.components.vla_loss import VLALoss

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "atlas" / "losses.json").read_text())


def _tensors(case: dict, part: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in case[part].items()}


@pytest.mark.parametrize("case", GOLDEN["vla_loss"], ids=lambda case: "-".join(map(str, case["kwargs"])) or "default")
def test_golden(case: dict) -> None:
    loss = VLALoss(**case["kwargs"])
    result = loss(*(_tensors(case, part) for part in ("predictions", "targets", "intermediates")))
    assert {name: value.item() for name, value in result.items()} == pytest.approx(case["out"], abs=1e-6)


@pytest.mark.parametrize("kwargs", [{}, {"pose_loss_type": "l1"}, {"pose_loss_type": "l2", "gripper_loss_type": "bce"}])
def test_per_sample_means_are_the_reduced_losses(kwargs: dict) -> None:
    loss, case = VLALoss(**kwargs), GOLDEN["vla_loss"][0]
    predictions, targets = _tensors(case, "predictions"), _tensors(case, "targets")
    per_sample = loss.per_sample(predictions, targets)
    assert per_sample["total_loss"].shape == (4,)
    for name, value in loss(predictions, targets).items():
        torch.testing.assert_close(per_sample[name].mean(), value)


def test_bce_works_under_autocast() -> None:
    loss = VLALoss(gripper_loss_type="bce")
    pose, gripper = torch.randn(2, 6), torch.rand(2, 1, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = loss({"pose": pose, "gripper": gripper}, {"pose": pose, "gripper": torch.ones(2, 1)})["total_loss"]
    total.backward()
    assert gripper.grad.isfinite().all()


@pytest.mark.parametrize("kwargs", [{"pose_loss_type": "huber"}, {"gripper_loss_type": "l2"}])
def test_unknown_loss(kwargs: dict) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        VLALoss(**kwargs)
