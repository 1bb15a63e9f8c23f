"""The model itself: packs, batches of text alone, freezing, long sequences, what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from vla.batches import IGNORE_INDEX, PackedBatch
from vla.conf.models.nanovlm import NanoVLM460MConfig, NanoVLMConfig, NanoVLMTinyConfig
from vla.conf.stage import Stage
from vla.models.components.document_attention import attend
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.models.vlms.nanovlm import NanoVLM
from vla.models.vlms.nanovlm_generation import Sampling, generate
from vla.models.weights_source import WeightsNotFound


def unpadded(batch: PackedBatch) -> list[PackedBatch]:
    """Every row of a batch by itself, without its padding on the left."""
    rows = []
    for row in range(len(batch.input_ids)):
        keep = batch.attention_mask[row]
        length = int(keep.sum())
        rows.append(
            replace(
                batch,
                sample_ids=batch.sample_ids[row : row + 1],
                is_multimodal=batch.is_multimodal[row : row + 1],
                document_ids=torch.zeros(1, length, dtype=torch.long),
                position_ids=torch.arange(length)[None],
                attention_mask=keep[keep][None],
                **{name: getattr(batch, name)[row][keep][None] for name in ("input_ids", "labels", "image_mask")},
            )
        )
    return rows


def pack(batch: PackedBatch, length: int) -> PackedBatch:
    """All rows of a batch one behind the other, in one sequence with padding at the end."""
    rows = unpadded(batch)
    ends = torch.tensor([row.input_ids.shape[1] for row in rows]).cumsum(0).tolist()
    starts = [0, *ends[:-1]]

    def joined(name: str, filler: int) -> torch.Tensor:
        line = torch.cat([getattr(row, name)[0] for row in rows])
        return torch.cat([line, line.new_full((length - len(line),), filler)])[None]

    ids = torch.full((1, length), -1)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        ids[0, start:end] = number
    labels = joined("labels", IGNORE_INDEX)
    labels[0, starts] = IGNORE_INDEX
    return replace(
        batch,
        input_ids=joined("input_ids", 0),
        attention_mask=joined("attention_mask", 0),
        labels=labels,
        image_mask=joined("image_mask", 0),
        position_ids=joined("position_ids", 0),
        document_ids=ids,
        segments=[(0, start, end) for start, end in zip(starts, ends, strict=True)],
    )


@pytest.mark.parametrize("attention", ["auto", "documents", "dense", "flex"])
def test_a_pack_gives_the_losses_of_its_samples(case, attention: str) -> None:
    """Same losses, and same gradients of their sum, to 1e-5."""
    model = case.model(attention=attention)
    batch = case.batch()
    tiles = batch.pixel_values["siglip"].split([4, 1, 0])
    packed = model(pack(batch, 120))
    packed.token_loss.sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for number, (alone, images) in enumerate(zip(unpadded(batch), tiles, strict=True)):
        alone.labels[0, 0] = IGNORE_INDEX
        output = model(replace(alone, pixel_values={"siglip": images}))
        mine = packed.token_row == number
        torch.testing.assert_close(packed.token_loss[mine], output.token_loss, rtol=0, atol=1e-5)
        assert torch.equal(packed.token_correct[mine], output.token_correct)
        output.token_loss.sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-4)


def test_without_documents_samples_of_a_pack_see_each_other(case) -> None:
    model, batch = case.model(), pack(case.batch(), 120)
    apart = model(batch)
    positions = torch.arange(120)[None]
    together = model(replace(batch, segments=None, position_ids=positions))
    first = apart.token_row == 0
    torch.testing.assert_close(apart.token_loss[first], together.token_loss[first], rtol=0, atol=1e-5)
    assert (apart.token_loss[~first] - together.token_loss[~first]).abs().min() > 1e-4


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_batch_of_text_alone_gives_every_parameter_a_gradient(case, checkpointing: bool) -> None:
    model = case.model().train()
    model.set_gradient_checkpointing(checkpointing)
    text = case.batch([2])
    model(text).token_loss.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs().sum() > 0) == name.startswith("llm_backbone"), name
    expected = case.model()(text).token_loss
    torch.testing.assert_close(model(text).token_loss, expected, rtol=0, atol=0)
    images = model(case.batch())
    images.token_loss.sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_stages_freeze_groups(case) -> None:
    model = case.model()
    apply_stage(model, replace(case.config.stage(Stage.FINETUNE)))
    model.train()
    model(case.batch()).token_loss.sum().backward()
    assert model.vision_backbone.layer_norm.weight.grad is None and not model.vision_backbone.training
    assert model.projector.proj.weight.grad is not None


def test_places_and_tiles_must_agree(case) -> None:
    model, batch = case.model(), case.batch()
    with pytest.raises(ValueError, match="must have 16 places for 4 tiles, got 20"):
        model(replace(batch, pixel_values={"siglip": batch.pixel_values["siglip"][:4]}))


def test_attention_gets_one_type_under_autocast(case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every version of PyTorch's flex attention takes a mixture."""
    types: list[torch.dtype] = []

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any) -> torch.Tensor:
        types.extend((query.dtype, key.dtype, value.dtype))
        return attend(query, key, value, *rest)

    model = case.model()
    for block in model.llm_backbone.blocks:
        monkeypatch.setattr(block.attn, "attend", watched)
    with torch.autocast("cpu", torch.bfloat16):
        model(case.batch())
    assert types and set(types) == {torch.bfloat16}


def test_longer_sequences_than_learned_turn_more_slowly() -> None:
    model = NanoVLM(NanoVLMTinyConfig())
    rotary, positions = model.llm_backbone.rotary_embd, torch.arange(600)[None]
    plain = rotary(positions, 511, torch.float32)
    slow = rotary(positions, 1023, torch.float32)
    torch.testing.assert_close(slow[0][:, ::2], plain[0][:, :300], rtol=0, atol=1e-5)
    assert torch.equal(rotary(positions, 0, torch.float32)[1], plain[1])


@pytest.mark.parametrize("tied", [True, False])
def test_a_cache_changes_nothing_within_the_learned_length(tied: bool) -> None:
    config = NanoVLMTinyConfig()
    config = replace(config, llm_backbone=replace(config.llm_backbone, tie_embeddings=tied, max_position=24))
    model = get_model(config, seed=3).eval()
    assert (model.llm_backbone.head.weight is model.llm_backbone.token_embedding.weight) == tied
    ids = torch.randint(0, 259, (2, 12), generator=torch.Generator().manual_seed(0))
    runs = [
        generate(model, ids, max_new_tokens=24, sampling=Sampling(greedy=True), use_cache=cached) for cached in (0, 1)
    ]
    assert torch.equal(runs[0][:, :13], runs[1][:, :13])  # 12 + 12 positions; beyond, kept keys can't be turned back


def test_parameters_start_alike_for_the_same_seed() -> None:
    first, second = get_model(NanoVLMTinyConfig(), seed=3), get_model(NanoVLMTinyConfig(), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.projector.proj.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_weights_that_can_not_be_had_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsNotFound, match=r"model\.vision_backbone\.weights\.siglip.*model\.llm_backbone\.weights"):
        get_model(NanoVLM460MConfig())
    with pytest.raises(WeightsNotFound, match=r"model\.weights: 'lusxvr/nanoVLM-460M-8k'"):
        get_model(NanoVLM460MConfig(weights="lusxvr/nanoVLM-460M-8k"))


def test_impossible_configurations_are_refused() -> None:
    tiny = NanoVLMTinyConfig()
    for values, message in (
        ({"pixel_shuffle": 3}, "pixel_shuffle: must divide the 4 patches along a side"),
        ({"processor": replace(tiny.processor, max_image_side=65)}, "must be 1 to 8 times 32"),
        ({"processor": replace(tiny.processor, max_image_side=32 * 9)}, "must be 1 to 8 times 32"),
        ({"processor": replace(tiny.processor, image_tokens="single")}, "must be 32 .* where a picture is one tile"),
        ({"attention": "fast"}, "attention: must be one of auto"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(tiny, **values)
    with pytest.raises(ValueError, match="image_tokens: must be one of"):
        replace(tiny.processor, image_tokens="many")
    assert isinstance(tiny, NanoVLMConfig)
