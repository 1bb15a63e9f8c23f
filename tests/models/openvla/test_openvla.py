"""OpenVLA: its text is the published one, its loss the published mean, its actions those of the likeliest tokens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vla.batches import IGNORE_INDEX, ActionBatch
from vla.conf.models.openvla import OpenVLAConfig, OpenVLATinyConfig
from vla.errors import UserError
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.models.vlas.action_text import ActionPrompter
from vla.models.vlas.action_tokens import ActionTokenizer
from vla.models.vlas.openvla import OpenVLA
from vla.tokenization import add_pad_token, get_tokenizer

TOKENIZER = Path(__file__).resolve().parents[2] / "golden" / "prismatic" / "tokenizer"
PROMPTS = {"pure": "pure", "vicuna_v15": "vicuna"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return add_pad_token(get_tokenizer(str(TOKENIZER)), "<PAD>")


def build(**values: Any) -> OpenVLA:
    model = get_model(replace(OpenVLATinyConfig(), **values))
    assert isinstance(model, OpenVLA)
    return model.eval()


def rows(batch: ActionBatch, index: list[int]) -> ActionBatch:
    """Some samples of a batch."""
    return replace(
        batch, sample_ids=batch.sample_ids[index], images=batch.images[index], actions=batch.actions[index],
        instructions=[batch.instructions[i] for i in index], action_mask=batch.action_mask[index],
    )  # fmt: skip


class TestText:
    def test_published_ids_and_labels(self, golden: Callable[[str], Any], tokenizer: Any) -> None:
        stored = golden("batch_transform")
        tokens = ActionTokenizer(tokenizer.vocab_size)
        assert (tokens.vocab_size, tokens.begin_id) == (stored["vocab_size"], stored["action_token_begin_idx"])
        for case in stored["cases"]:
            prompter = ActionPrompter(tokenizer, PROMPTS[case["builder"]], 64)
            text = prompter([case["instruction"]], tokens.encode(torch.tensor([case["action"]])))
            assert text.input_ids[0].tolist() == case["input_ids"]
            assert text.labels(7 + case["predict_stop_token"])[0].tolist() == case["labels"]

    def test_published_batches(self, golden: Callable[[str], Any], tokenizer: Any) -> None:
        stored = golden("batch_transform")
        tokens = ActionTokenizer(tokenizer.vocab_size)
        for number, batch in enumerate(stored["collated"]):
            cases = stored["cases"][3 * number : 3 * number + 3]
            actions = torch.tensor([case["action"] for case in cases])
            prompter = ActionPrompter(tokenizer, PROMPTS[batch["builder"]], 64)
            text = prompter([case["instruction"] for case in cases], tokens.encode(actions))
            assert text.input_ids.tolist() == batch["input_ids"]
            assert text.attention_mask.int().tolist() == batch["attention_mask"]
            assert text.labels(7 + batch["predict_stop_token"]).tolist() == batch["labels"]

    def test_asking_is_the_same_text_without_the_answer(self, tokenizer: Any) -> None:
        prompter = ActionPrompter(tokenizer, "pure", 64)
        asked = prompter(["Open the DRAWER", "go"])
        answered = prompter(["Open the DRAWER", "go"], torch.full((2, 7), 300))
        assert torch.equal(asked.starts, answered.starts)
        for row, length in enumerate(asked.starts.tolist()):
            assert asked.attention_mask[row].sum() == length
            assert torch.equal(asked.input_ids[row, :length], answered.input_ids[row, :length])
            assert tokenizer.convert_ids_to_tokens(int(asked.input_ids[row, length - 1])) == "▁"

    def test_long_instructions_are_cut_before_the_question_ends(self, tokenizer: Any) -> None:
        prompter = ActionPrompter(tokenizer, "pure", 6)
        assert tokenizer.decode(prompter.question_ids("pick up the black bowl " * 9)).endswith("?\nOut: ")


class TestLoss:
    @pytest.mark.parametrize("stop", [True, False])
    @pytest.mark.parametrize("chunk", [1, 3])
    def test_is_the_published_mean_over_tokens(
        self, make_batch: Callable[..., ActionBatch], chunk: int, stop: bool
    ) -> None:
        model = build(num_actions=chunk, predict_stop_token=stop)
        batch = make_batch(model.config)
        output = model(batch)
        tokens, labels, logits = model.action_tokens, *teacher_forced(model, batch)
        learned = labels != IGNORE_INDEX
        assert learned.sum(1).tolist() == [7 * chunk + stop] * len(labels)
        expected = torch.nn.functional.cross_entropy(logits[learned], labels[learned])
        assert output.step_loss.shape == (len(labels), chunk)
        torch.testing.assert_close(output.step_loss.mean(), expected)
        compared = tokens.compare(logits.argmax(-1), labels)
        accuracy = compared.correct[compared.is_action].float().mean()
        torch.testing.assert_close(output.step_logs["action_accuracy"].mean(), accuracy)

    def test_steps_past_the_end_change_nothing_before_them(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build(num_actions=3, predict_stop_token=False)
        batch = make_batch(model.config)
        other = replace(batch, actions=torch.cat((batch.actions[:, :2], -batch.actions[:, 2:]), dim=1))
        torch.testing.assert_close(model(batch).step_loss[:, :2], model(other).step_loss[:, :2])

    def test_rows_do_not_depend_on_each_other(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        batch = make_batch(model.config)
        alone = torch.cat([model(rows(batch, [i])).step_loss for i in range(len(batch))])
        torch.testing.assert_close(model(batch).step_loss, alone)


def teacher_forced(model: OpenVLA, batch: ActionBatch) -> tuple[Tensor, Tensor]:
    """Labels [B, L - 1] and logits [B, L - 1, V] of the text, each logit beside the label that it is of."""
    answers = model.action_tokens.encode(model._to_published(batch.actions)).flatten(1)
    text = model.prompter(batch.instructions, answers)
    sequences = model._fuse(batch, text)
    logits = model.llm_backbone.logits(model.llm_backbone(sequences.embeds, sequences.attention_mask))
    labels = text.labels(answers.shape[1] + model.config.predict_stop_token)
    patches = logits.shape[1] - labels.shape[1]
    return labels[:, 1:], logits[:, patches:-1]


class TestPrediction:
    @pytest.mark.parametrize("chunk", [1, 2])
    def test_is_what_each_token_makes_likeliest(self, make_batch: Callable[..., ActionBatch], chunk: int) -> None:
        """Fed with its own answer, the model finds every token of it likeliest: the cache changes nothing."""
        model = build(num_actions=chunk)
        batch = make_batch(model.config)
        predicted = model.predict(batch)
        assert predicted.shape == (len(batch), chunk, 7) and predicted.dtype == torch.float32
        labels, logits = teacher_forced(model, replace(batch, actions=predicted))
        tokens = model.action_tokens
        chosen = model._likeliest_action(logits)[labels > tokens.begin_id]
        wanted = labels[labels > tokens.begin_id]
        # +1 exactly has a token of its own that reads like its neighbour
        assert torch.equal(tokens.decode(chosen), tokens.decode(wanted))

    def test_batches_give_what_single_samples_give(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        batch = make_batch(model.config)
        alone = torch.cat([model.predict(rows(batch, [i])) for i in range(len(batch))])
        assert torch.equal(model.predict(batch), alone)

    def test_the_gripper_opens_at_one(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        batch = make_batch(model.config)
        actions = batch.actions.clone()
        actions[..., -1] = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
        published = model._to_published(actions)
        assert published[..., -1].flatten().tolist() == [1, 0, 1, 0]
        assert torch.equal(model._from_published(published), actions)
        ids = model.action_tokens.encode(published)
        assert (model._to_actions(ids.flatten(1)) - actions).abs().max() < 0.008


class TestParts:
    def test_kept_patches_stand_for_the_images(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        apply_stage(model, model.config.finetune)
        batch = make_batch(model.config)
        features = model.feature_sources()["vision_backbone"].compute(batch)
        blind = replace(batch, images=torch.zeros_like(batch.images), features=features)
        torch.testing.assert_close(model(blind).step_loss, model(batch).step_loss)
        assert torch.equal(model.predict(blind), model.predict(batch))

    def test_several_images(self, make_batch: Callable[..., ActionBatch]) -> None:
        config = OpenVLATinyConfig()
        model = build(processor=replace(config.processor, cameras=("agentview", "eye_in_hand")))
        batch = make_batch(model.config)
        assert batch.images.shape[1] == 2
        text = model.prompter(batch.instructions)
        patches = model.config.vision_backbone.num_patches
        assert model._fuse(batch, text).embeds.shape[1] == text.input_ids.shape[1] + 2 * patches
        changed = replace(batch, images=batch.images.flip(1))
        assert not torch.allclose(model(changed).step_loss, model(batch).step_loss)

    def test_assets_rebuild_the_model(self, tmp_path: Path, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        model.save_assets(tmp_path)
        again = get_model(model.config, assets=tmp_path).eval()
        again.load_state_dict(model.state_dict())
        batch = make_batch(model.config)
        assert torch.equal(again.predict(batch), model.predict(batch))

    def test_more_action_tokens_than_rows(self) -> None:
        with pytest.raises(UserError, match=r"model.action_vocab_size: must be in \[256, 576\]"):
            build(action_vocab_size=577).action_tokens.encode(torch.zeros(1))


def test_learns_one_batch_by_heart(make_batch: Callable[..., ActionBatch]) -> None:
    config: OpenVLAConfig = OpenVLATinyConfig()
    model = get_model(config).train()
    batch = make_batch(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        output = model(batch)
        output.step_loss.mean().backward()
        optimizer.step()
    error = (model.eval().predict(batch) - batch.actions).abs()
    assert error.max() < 0.01
