"""The action task: what counts, and metrics against values computed by hand."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from vla.batches import ActionBatch
from vla.conf.models.base import ProcessorConfig
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.models.base import ModelOutput
from vla.overwatch.distributed import DistState
from vla.training.materialize import get_task
from vla.training.tasks.action import ActionTask


@dataclass
class Output(ModelOutput):
    step_loss: torch.Tensor | None = None
    step_logs: dict[str, torch.Tensor] = field(default_factory=dict)


@pytest.fixture
def task() -> ActionTask:
    """Actions between -2 and 2 as stored become -1 to 1; 1.0 as stored is 5 cm, or 0.5 rad."""
    statistics = ArrayStatistics.of(np.stack([np.full(7, -2.0), np.full(7, 2.0)]))
    config = ProcessorConfig(image_size=8, normalization="bounds")
    return ActionTask(Processor(config, 2, {"actions": statistics}))


def make_batch(actions: torch.Tensor, mask: list[list[bool]]) -> ActionBatch:
    size = len(actions)
    images = torch.zeros(size, 2, 3, 16, 16, dtype=torch.uint8)
    return ActionBatch(torch.arange(size), images, ["x"] * size, actions, torch.tensor(mask))


def test_only_steps_inside_the_episode_count(task):
    batch = make_batch(torch.zeros(2, 2, 7), [[True, False], [True, True]])
    assert task.weigh(batch) == 3
    loss = torch.tensor([[1.0, float("nan")], [2.0, 4.0]], requires_grad=True)
    result = task.loss(Output(step_loss=loss, step_logs={"pose": loss.detach()}), batch)
    assert result.loss_sum == 7 and [value.item() for value in result.logs["pose"]] == [7, 3]
    result.loss_sum.backward()
    assert loss.grad.tolist() == [[1, 0], [1, 1]]


def test_images_are_prepared_unless_their_features_are_there(task):
    batch = make_batch(torch.zeros(1, 2, 7), [[True, True]])
    prepared = task.prepare(batch, "cpu")
    assert prepared.images.shape == (1, 2, 3, 8, 8) and prepared.images.dtype == torch.float32
    batch.features["vision_backbone.tokens"] = torch.zeros(1, 4)
    assert task.prepare(batch, "cpu").images.dtype == torch.uint8


def test_kept_features_never_stand_for_augmented_images(task):
    batch = make_batch(torch.zeros(2, 2, 7), [[True, True]] * 2)
    plain = task.prepare(batch, "cpu").images
    batch.augmentation_seeds = torch.tensor([1, 2])
    assert not torch.equal(task.prepare(replace(batch, images=batch.images + 90), "cpu").images, plain + 90 / 255)
    batch.features["vision_backbone.tokens"] = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="features: there must be none of images that are to be augmented"):
        task.prepare(batch, "cpu")


class Constant:
    """Predicts the same action always; its loss is 1 for every step."""

    def __init__(self, action: list[float]) -> None:
        self.action = torch.tensor(action)

    def __call__(self, batch: ActionBatch) -> Output:
        ones = torch.ones(batch.actions.shape[:2])
        return Output(step_loss=ones, step_logs={"pose_loss": 2 * ones, "action_l1": 9 * ones})

    def predict(self, batch: ActionBatch) -> torch.Tensor:
        return self.action.expand_as(batch.actions)


def test_metrics_by_hand(task):
    """x is off by 0.5 (of 2.0 as stored: 1.0, 5 cm), a rotation by 0.25 (0.5 as stored: 0.25 rad) where unmasked."""
    actions = torch.zeros(3, 2, 7)
    actions[..., -1] = torch.tensor([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    batches = [
        make_batch(actions[:1], [[True, True]]),
        make_batch(actions[1:], [[True, False], [False, False]]),  # the last is padding
    ]
    model = Constant([0.5, 0, 0, 0.25, 0, 0, 1.0])
    metrics = task.evaluate(model, batches, DistState())
    assert metrics["eval/loss"] == 1 and metrics["eval/pose_loss"] == 2
    assert metrics["eval/l1_x_m"] == pytest.approx(0.05) and metrics["eval/l1_y_m"] == 0
    assert metrics["eval/l1_rotation_x_rad"] == pytest.approx(0.25)
    assert metrics["eval/gripper_accuracy"] == pytest.approx(2 / 3)
    assert metrics["eval/action_l1"] == pytest.approx((0.5 + 0.25 + 2 / 3) / 7)


def test_unknown_task():
    class Config:
        task = "juggling"

    with pytest.raises(ValueError, match="task: must be one of action, .*, got 'juggling'"):
        get_task(Config(), None)
