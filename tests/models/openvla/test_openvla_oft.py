"""OpenVLA-OFT: published places, attention both ways, and heads that learn."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from vla.batches import IGNORE_INDEX, ActionBatch
from vla.conf import cli
from vla.conf.models import ModelConfig
from vla.conf.models.openvla_oft import (
    PLATFORMS,
    DiffusionHeadConfig,
    DiscreteHeadConfig,
    L1HeadConfig,
    OFTHeadConfig,
    OpenVLAOFTTinyConfig,
)
from vla.conf.pretrain import PretrainConfig
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.models.vlas.action_text import ActionText
from vla.models.vlas.openvla_oft import OpenVLAOFT

HEADS: list[OFTHeadConfig] = [
    L1HeadConfig(hidden_dim=64), DiffusionHeadConfig(hidden_dim=64, num_inference_steps=5), DiscreteHeadConfig(),
]  # fmt: skip
each_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)


def build(**values: Any) -> OpenVLAOFT:
    model = get_model(replace(OpenVLAOFTTinyConfig(), **values))
    assert isinstance(model, OpenVLAOFT)
    return model.eval()


def rows(batch: ActionBatch, index: list[int]) -> ActionBatch:
    """Some samples of a batch."""
    assert batch.proprio is not None and batch.rng_seeds is not None
    return replace(
        batch, sample_ids=batch.sample_ids[index], images=batch.images[index], actions=batch.actions[index],
        instructions=[batch.instructions[i] for i in index], action_mask=batch.action_mask[index],
        proprio=batch.proprio[index], rng_seeds=batch.rng_seeds[index],
    )  # fmt: skip


def test_published_masks(golden: Callable[[str], Any]) -> None:
    """The places after a question are those that published code finds by its labels."""
    for case in golden("oft_masks")["cases"]:
        labels = torch.tensor(case["labels"])
        starts = (labels != IGNORE_INDEX).int().argmax(1)
        text = ActionText(labels, torch.ones_like(labels, dtype=torch.bool), starts)
        none = torch.zeros_like(labels)
        places = text.places(8 * 7)
        assert none.scatter(1, places[:, :7], 1).tolist() == case["current"]
        assert none.scatter(1, places[:, 7:], 1).tolist() == case["next"]


@pytest.mark.parametrize(("model_id", "platform", "images"), [
    ("openvla-oft-7b", "libero", 2), ("openvla-oft-7b-aloha", "aloha", 3), ("openvla-oft-7b-bridge", "bridge", 1),
    ("openvla-oft-tiny", "libero", 2),
])  # fmt: skip
def test_platforms_are_configuration(model_id: str, platform: str, images: int) -> None:
    config: Any = ModelConfig.get_choice_class(model_id)()
    found = (config.chunk_size, config.processor.action_dim, config.proprio_dim, config.processor.normalization)
    values = PLATFORMS[platform]
    assert found == (values.num_actions, values.action_dim, values.proprio_dim, values.normalization)
    assert len(config.processor.cameras) == images and config.processor.proprio
    parsed = cli.parse(PretrainConfig, [
        "--model.type", model_id, "--model.num_actions", "5", "--model.proprio_dim", "9", "--dry_run", "true",
    ])  # fmt: skip
    assert (parsed.model.chunk_size, parsed.model.proprio_dim) == (5, 9)  # type: ignore[attr-defined]


class TestReading:
    def test_hidden_states_are_read_one_place_before(self, make_batch: Callable[..., ActionBatch]) -> None:
        """Published: from NUM_PATCHES + NUM_PROMPT_TOKENS on, the latter without the beginning token."""
        model = build()
        batch = rows(make_batch(model.config), [1])
        reading = model._read(batch)
        hidden = model._run(reading)
        question = len(model.prompter.question_ids(batch.instructions[0]))
        num_patches = 2 * model.config.vision_backbone.num_patches + 1  # and the robot's state
        start = num_patches + question - 1
        published = model.action_head(hidden[:, start : start + 56], 8)
        torch.testing.assert_close(model.predict(batch), model._from_published(published))

    def test_attention_goes_both_ways(self, make_batch: Callable[..., ActionBatch]) -> None:
        """What stands behind a place changes what is there, which it can't where only the past is seen."""
        model = build()
        batch = rows(make_batch(model.config), [1])
        reading = model._read(batch)
        embeds = reading.embeds.clone()
        embeds[:, -1] += 1.0  # the end token
        before, after = model._run(reading), model._run(replace(reading, embeds=embeds))
        assert ((before - after).abs().amax(-1) > 1e-6).all()

    def test_padding_is_seen_by_nobody(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build(film=True)
        batch = make_batch(model.config)
        assert len({len(model.prompter.question_ids(text)) for text in batch.instructions}) > 1
        alone = torch.cat([model.predict(rows(batch, [i])) for i in range(len(batch))])
        torch.testing.assert_close(model.predict(batch), alone, rtol=0, atol=1e-5)

    def test_places_are_empty(self, make_batch: Callable[..., ActionBatch]) -> None:
        """Actions are what is asked for: none of the demonstrated ones reaches the model."""
        model = build()
        batch = make_batch(model.config)
        assert torch.equal(model.predict(batch), model.predict(replace(batch, actions=-batch.actions)))

    def test_proprio_is_a_token(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        batch = make_batch(model.config)
        assert batch.proprio is not None
        changed = replace(batch, proprio=batch.proprio + 1)
        assert not torch.allclose(model.predict(batch), model.predict(changed))
        with pytest.raises(ValueError, match=r"proprio: the model was built with processor\.proprio"):
            model.predict(replace(batch, proprio=None))

    def test_film_lets_the_instruction_change_what_is_seen(self, make_batch: Callable[..., ActionBatch]) -> None:
        batch = make_batch(OpenVLAOFTTinyConfig())
        other = replace(batch, instructions=batch.instructions[1:] + batch.instructions[:1])
        for film in (False, True):
            model = build(film=film)
            seen, after = (model._read(each).seen[:, :-1] for each in (batch, other))
            assert torch.equal(seen, after) != film
            assert bool(model.feature_sources()) != film


class TestHeads:
    @each_head
    def test_loss_is_by_step(self, make_batch: Callable[..., ActionBatch], head: OFTHeadConfig) -> None:
        model = build(action_head=head)
        batch = make_batch(model.config)
        output = model(batch)
        assert output.step_loss.shape == (4, 8) and output.step_loss.dtype == torch.float32
        alone = torch.cat([model(rows(batch, [i])).step_loss for i in range(4)])
        torch.testing.assert_close(output.step_loss, alone, rtol=1e-4, atol=1e-4)

    def test_l1_is_the_published_mean(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build()
        batch = make_batch(model.config)
        predicted, target = (model._to_published(actions) for actions in (model.predict(batch), batch.actions))
        expected = torch.nn.functional.l1_loss(predicted, target)
        torch.testing.assert_close(model(batch).step_loss.mean(), expected)

    @each_head
    def test_learns(self, make_batch: Callable[..., ActionBatch], head: OFTHeadConfig) -> None:
        model = build(action_head=head).train()
        batch = make_batch(model.config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        first = None
        for step in range(50):
            optimizer.zero_grad()
            loss = model(replace(batch, rng_seeds=torch.arange(4) + 4 * step)).step_loss.mean()
            loss.backward()
            optimizer.step()
            first = first or loss.item()
        assert loss.item() < 0.8 * first

    @each_head
    def test_what_trains_has_a_gradient(self, make_batch: Callable[..., ActionBatch], head: OFTHeadConfig) -> None:
        model = build(action_head=head, film=True)
        apply_stage(model, model.config.full_finetune)
        model.train()(make_batch(model.config)).step_loss.mean().backward()
        without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
        assert not without
        unused = "llm_backbone.llm.lm_head.weight" in model.unused_parameters()
        assert unused != isinstance(head, DiscreteHeadConfig)

    def test_sampling_depends_on_the_seed_alone(self, make_batch: Callable[..., ActionBatch]) -> None:
        model = build(action_head=HEADS[1])
        batch = make_batch(model.config)
        assert torch.equal(model.predict(batch), model.predict(batch))
        other = replace(batch, rng_seeds=torch.arange(4))
        assert not torch.equal(model.predict(batch), model.predict(other))
        assert (model._to_published(model.predict(batch)).abs() <= 1 + 1e-6).all()

    def test_fewer_levels_than_steps(self) -> None:
        with pytest.raises(ValueError, match=r"num_inference_steps: must be at most num_train_steps \(50\), got 51"):
            DiffusionHeadConfig(num_inference_steps=51)


def test_kept_patches_stand_for_the_images(make_batch: Callable[..., ActionBatch]) -> None:
    model = build()
    apply_stage(model, model.config.finetune)
    batch = make_batch(model.config)
    features = model.feature_sources()["vision_backbone"].compute(batch)
    blind = replace(batch, images=torch.zeros_like(batch.images), features=features)
    torch.testing.assert_close(model.predict(blind), model.predict(batch))


def test_two_arms(make_batch: Callable[..., ActionBatch]) -> None:
    """ALOHA's constants on the small model: 25 actions of 14 dimensions, three cameras, FiLM."""
    big: Any = ModelConfig.get_choice_class("openvla-oft-7b-aloha")()
    tiny = OpenVLAOFTTinyConfig()
    model = build(
        processor=replace(big.processor, image_size=tiny.processor.image_size), num_actions=big.num_actions,
        proprio_dim=big.proprio_dim, gripper_tokens=big.gripper_tokens, film=big.film,
    )  # fmt: skip
    batch = make_batch(tiny, 2)
    batch = replace(
        batch, images=torch.rand(2, 3, 3, 28, 28), actions=torch.rand(2, 25, 14) * 2 - 1, proprio=torch.randn(2, 14)
    )
    assert model(batch).step_loss.shape == (2, 25) and model.predict(batch).shape == (2, 25, 14)
