"""Generated text: the published one, the same in any batch, with and without what is kept of earlier positions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vla.batches import LanguageBatch
from vla.conf.models.base import LanguageProcessorConfig
from vla.data.language.processor import LanguageProcessor
from vla.models.vlms.generation import Sampling
from vla.models.vlms.prismatic import PrismaticVLM

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "prismatic"
CASE, VICUNA = json.loads((GOLDEN / "vlm_generate.json").read_text())["cases"]  # the latter's weights are not here
PROMPTS = [[1, 33, 174, 35], [1, 7], [1, 64, 65, 59, 66, 67, 46], [1, 300, 200, 100, 50]]


@pytest.fixture
def processor(golden_model: PrismaticVLM) -> LanguageProcessor:
    """With the golden cases' tokenizer."""
    config = golden_model.config
    llm = replace(config.llm_backbone, tokenizer=str(GOLDEN / "tokenizer"))
    naive = LanguageProcessorConfig(image_resize_strategy="resize-naive")
    return LanguageProcessor.from_config(replace(config, llm_backbone=llm, processor=naive))


@pytest.fixture
def images() -> dict[str, Tensor]:
    """As many as there are prompts."""
    return {"siglip": torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(3))}


def without_cache(model: PrismaticVLM, prompt: list[int], pixels: dict[str, Tensor] | None, count: int) -> list[int]:
    """The likeliest continuation, each token from a forward pass over all that precedes it."""
    tokens: list[int] = []
    for _ in range(count):
        read = model.read_prompts([[*prompt, *tokens]], pixels)
        hidden = model.llm_backbone(read.embeds, read.attention_mask)
        tokens.append(int(model.llm_backbone.logits(hidden[0, -1]).argmax()))
    return tokens


def test_golden(golden_model: PrismaticVLM, processor: LanguageProcessor) -> None:
    picture = np.random.default_rng(CASE["image_numpy_seed"]).integers(0, 256, CASE["image_shape"]).astype(np.uint8)
    views = processor.image(Image.fromarray(picture))
    pixels = processor.pixels({name: torch.from_numpy(view)[None] for name, view in views.items()})
    builder = processor.prompt_builder()
    builder.add_turn("human", CASE["question"])
    assert builder.get_prompt() == CASE["prompt"]
    ids = processor.prompt_ids(builder)
    assert ids == CASE["input_ids"]
    sampling = Sampling(max_new_tokens=len(CASE["generated_ids"]))
    generated = golden_model.generate([ids], pixels, end_id=processor.tokenizer.eos_token_id, sampling=sampling)
    assert generated.tokens == [CASE["generated_ids"]]
    assert processor.tokenizer.decode(generated.tokens[0], skip_special_tokens=True) == CASE["text"]


def test_golden_prompt_of_another_format(processor: LanguageProcessor) -> None:
    vicuna = replace(processor, prompt="vicuna")
    builder = vicuna.prompt_builder()
    builder.add_turn("human", VICUNA["question"])
    assert (builder.get_prompt(), vicuna.prompt_ids(builder)) == (VICUNA["prompt"], VICUNA["input_ids"])


@pytest.mark.parametrize("with_images", [True, False])
def test_equal_to_generation_without_cache(
    with_images: bool, golden_model: PrismaticVLM, images: dict[str, Tensor]
) -> None:
    pixels = images if with_images else None
    together = golden_model.generate(PROMPTS, pixels, sampling=Sampling(max_new_tokens=6)).tokens
    for row, prompt in enumerate(PROMPTS):
        alone = None if pixels is None else {"siglip": pixels["siglip"][row : row + 1]}
        assert together[row] == without_cache(golden_model, prompt, alone, 6)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_prompt_gives_in_a_batch_what_it_gives_alone(
    temperature: float, golden_model: PrismaticVLM, images: dict[str, Tensor]
) -> None:
    has_image = [True, False, True, False]
    sampling = Sampling(max_new_tokens=7, temperature=temperature, top_p=0.9)
    together = golden_model.generate(PROMPTS, images, has_image, sampling=sampling)
    for row, prompt in enumerate(PROMPTS):
        pixels = {"siglip": images["siglip"][row : row + 1]} if has_image[row] else None
        alone = golden_model.generate([prompt], pixels, sampling=replace(sampling, seed=row))
        assert alone.tokens[0] == together.tokens[row]
        torch.testing.assert_close(alone.first_logits[0], together.first_logits[row], rtol=1e-4, atol=1e-5)


def test_first_logits_are_those_of_the_forward_pass(golden_model: PrismaticVLM, golden_batch: LanguageBatch) -> None:
    logits, _, mask = golden_model(golden_batch, request="logits")
    lengths = golden_batch.attention_mask.sum(dim=1).tolist()
    prompts = [ids[:length].tolist() for ids, length in zip(golden_batch.input_ids, lengths, strict=True)]
    generated = golden_model.generate(
        prompts, golden_batch.pixel_values, golden_batch.is_multimodal.tolist(), sampling=Sampling(max_new_tokens=1)
    )
    last = logits[torch.arange(4), mask.sum(dim=1) - 1]
    torch.testing.assert_close(generated.first_logits, last, rtol=1e-4, atol=1e-5)


def test_it_stops_at_the_end_token_and_tells_of_every_token(
    golden_model: PrismaticVLM, images: dict[str, Tensor]
) -> None:
    free = golden_model.generate(PROMPTS, images, sampling=Sampling(max_new_tokens=5)).tokens
    end = free[0][2]
    told: list[list[int | None]] = []
    ended = golden_model.generate(
        PROMPTS, images, end_id=end, sampling=Sampling(max_new_tokens=5), on_token=told.append
    ).tokens
    for row, tokens in enumerate(free):
        expected = tokens[: tokens.index(end)] if end in tokens else tokens
        assert ended[row] == expected
        assert [step[row] for step in told if step[row] is not None] == expected
    longer = golden_model.generate(
        PROMPTS[:1], {"siglip": images["siglip"][:1]}, end_id=end, sampling=Sampling(max_new_tokens=5, min_new_tokens=5)
    )
    assert len(longer.tokens[0]) == 5 and end not in longer.tokens[0]
    assert longer.first_logits.isfinite().all()


def test_draws_depend_on_the_seed_alone(golden_model: PrismaticVLM, images: dict[str, Tensor]) -> None:
    drawn = []
    for seed, other in ((1, 0), (1, 1), (2, 2)):
        torch.manual_seed(other)
        sampling = Sampling(max_new_tokens=8, temperature=2.0, seed=seed)
        drawn.append(golden_model.generate(PROMPTS, images, sampling=sampling).tokens)
    assert drawn[0] == drawn[1] != drawn[2]
    tiny_nucleus = Sampling(max_new_tokens=8, temperature=2.0, top_p=1e-6)
    greedy = golden_model.generate(PROMPTS, images, sampling=Sampling(max_new_tokens=8)).tokens
    assert golden_model.generate(PROMPTS, images, sampling=tiny_nucleus).tokens == greedy


def test_bad_prompts(golden_model: PrismaticVLM, images: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="at least one token each"):
        golden_model.generate([[1], []])
    with pytest.raises(ValueError, match=r"pixel_values\.siglip: must be 1 images, one per prompt, got 4"):
        golden_model.generate([[1]], images)
    with pytest.raises(ValueError, match="temperature: must be >= 0, got -1"):
        Sampling(temperature=-1)
