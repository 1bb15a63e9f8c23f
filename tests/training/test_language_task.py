"""The language task: what counts, and metrics against values computed by hand."""

import math

import pytest
import torch
from language_toys import VOCABULARY, Bigrams, ToyProcessor, language_batch

from vla.batches import IGNORE_INDEX
from vla.conf.models import ModelConfig
from vla.overwatch.distributed import DistState
from vla.training.materialize import get_task
from vla.training.tasks.language import LanguageTask

CERTAIN = 50.0  # a logit that leaves no doubt


@pytest.fixture
def task() -> LanguageTask:
    class Config(ModelConfig):
        task = "language"

    task = get_task(Config(), ToyProcessor())
    assert isinstance(task, LanguageTask)
    return task


def test_tokens_with_a_label_count_once_and_the_first_never(task):
    batch = language_batch([([1, 2, 3, 4], 2), ([1, 2], 0), ([1, 2, 3], 3)])
    assert batch.labels[1].tolist() == [1, 2, IGNORE_INDEX, IGNORE_INDEX]
    assert task.weigh(batch) == 2 + 1 + 0
    logits = torch.zeros(VOCABULARY, VOCABULARY, requires_grad=True)
    result = task.loss(Bigrams(logits)(batch), batch)
    assert result.loss_sum.item() == pytest.approx(3 * math.log(VOCABULARY))
    assert [value.item() for value in result.logs["token_accuracy"]] == [0, 3]
    result.loss_sum.backward()
    assert logits.grad.abs().sum(1).bool().tolist() == [False, True, True, True, False]


def test_a_batch_without_labels_has_the_same_logs_and_no_weight(task):
    batch = language_batch([([1, 2, 3], 3)])
    logits = torch.zeros(VOCABULARY, VOCABULARY, requires_grad=True)
    result = task.loss(Bigrams(logits)(batch), batch)
    assert task.weigh(batch) == 0 and result.loss_sum == 0 and result.logs["token_accuracy"][1] == 0
    result.loss_sum.backward()
    assert not logits.grad.any()


def test_images_are_prepared_unless_their_features_are_there(task):
    batch = language_batch([([1, 2], 1)])
    assert task.prepare(batch, "cpu").pixel_values["siglip"].unique().tolist() == [1.0]
    batch.features["llm_backbone.anything"] = torch.zeros(1)
    assert task.prepare(batch, "cpu").pixel_values["siglip"].dtype == torch.float32
    batch.features["vision_backbone.patches"] = torch.zeros(1, 4, 8)
    assert task.prepare(batch, "cpu").pixel_values["siglip"].dtype == torch.uint8


def test_metrics_by_hand(task):
    """After 1 comes 2 for sure; everything else is a guess among 5. Batches of 3 and 1 tokens: tokens count alike."""
    logits = torch.zeros(VOCABULARY, VOCABULARY)
    logits[1, 2] = CERTAIN
    guess = math.log(VOCABULARY)
    batches = [
        language_batch([([1, 2, 3], 1), ([4, 0], 1)], [True, False]),  # right, wrong; right: 0 is the first of equals
        language_batch([([3, 4], 1), ([2, 2, 2], 3)], [False, True]),  # wrong; padding
    ]
    metrics = task.evaluate(Bigrams(logits), batches, DistState())
    assert metrics["eval/loss"] == pytest.approx(3 * guess / 4)
    assert metrics["eval/perplexity"] == pytest.approx(VOCABULARY**0.75)
    assert metrics["eval/token_accuracy"] == 0.5
    assert metrics["eval/multimodal_loss"] == pytest.approx(guess / 2)
    assert metrics["eval/text_loss"] == pytest.approx(guess)


def test_metrics_of_a_hopeless_model_and_of_one_kind_of_rows(task):
    logits = torch.zeros(VOCABULARY, VOCABULARY)
    logits[1, 2] = 1e4
    metrics = task.evaluate(Bigrams(logits), [language_batch([([1, 3], 1)])], DistState())
    assert math.isfinite(metrics["eval/perplexity"]) and metrics["eval/loss"] == pytest.approx(1e4)
    assert "eval/text_loss" not in metrics
    assert task.evaluate(Bigrams(logits), [language_batch([([1, 3], 2)])], DistState()) == {}
