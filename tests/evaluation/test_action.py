"""Action metrics against values worked out by hand, and against predictions that must score badly."""

import math

import pytest
import torch

from vla.evaluation.action import ActionSpace, action_metrics, gripper_accuracy, masked_l1, readable_units

SPACE = ActionSpace(("x", "rotation x", "gripper"), ("m", "rad", "-1 open, +1 closed"))


def test_masked_l1_by_hand() -> None:
    predicted = torch.tensor([[1.0, 2.0], [0.0, 0.0], [9.0, 9.0]])
    demonstrated = torch.tensor([[0.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    mask = torch.tensor([True, True, False])
    torch.testing.assert_close(masked_l1(predicted, demonstrated, mask), torch.tensor([1.0, 1.0]))


def test_masked_l1_of_chunks_and_of_nothing() -> None:
    chunk = torch.ones(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(masked_l1(chunk, torch.zeros_like(chunk), mask), torch.ones(4))
    assert masked_l1(chunk, chunk, torch.zeros(2, 3, dtype=torch.bool)).isnan().all()


def test_gripper_accuracy_by_hand() -> None:
    predicted = torch.tensor([[0.1], [-0.9], [0.0], [1.0]])
    demonstrated = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert gripper_accuracy(predicted, demonstrated, torch.tensor([True, True, True, False])).item() == pytest.approx(
        2 / 3
    )


def test_units_for_people() -> None:
    assert readable_units(["m", "rad", "N"]) == [("mm", 1000.0), ("°", 180 / math.pi), ("N", 1.0)]


def test_metrics_by_hand() -> None:
    demonstrated = torch.tensor([[0.01, math.pi / 180, 1.0], [0.03, -math.pi / 180, 1.0], [0.02, 0.0, -1.0]])
    predicted = demonstrated + torch.tensor([0.002, 0.0, 0.0])
    predicted[2, 2] = 1.0
    metrics = action_metrics(SPACE, predicted, demonstrated, torch.tensor([0.02, 0.0, 0.3]))
    assert [(row["name"], row["unit"]) for row in metrics["dimensions"]] == [("x", "mm"), ("rotation x", "°")]
    assert metrics["translation_l1"] == pytest.approx(2.0, abs=1e-5)
    assert metrics["translation_l1_baseline"] == pytest.approx(20 / 3, abs=1e-5)
    assert metrics["rotation_l1"] == 0.0 and metrics["rotation_l1_baseline"] == pytest.approx(2 / 3, abs=1e-5)
    assert metrics["gripper_accuracy"] == pytest.approx(2 / 3)
    assert metrics["gripper_accuracy_baseline"] == pytest.approx(2 / 3)
    assert metrics["num_actions"] == 3


def test_a_perfect_policy_beats_the_baseline_and_an_opposite_one_does_not() -> None:
    demonstrated = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    mean = demonstrated.mean(0)
    perfect = action_metrics(SPACE, demonstrated, demonstrated, mean)
    opposite = action_metrics(SPACE, -demonstrated, demonstrated, mean)
    assert perfect["translation_l1"] == 0 and perfect["gripper_accuracy"] == 1
    assert opposite["translation_l1"] > opposite["translation_l1_baseline"]
    assert opposite["gripper_accuracy"] == 0
