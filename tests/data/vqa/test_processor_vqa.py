"""Pictures, image strings and labels against recorded ones; what the processor keeps and refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from vqa_cases import GOLDEN, make_processor

from vla.batches import IGNORE_INDEX
from vla.conf.models.nanovlm import NanoVLM222MConfig, NanoVLMTinyConfig
from vla.conf.vqa_datasets import RatingsConfig
from vla.data.materialize import load_processor
from vla.data.vqa.dialogues import chatml, image_string, kept_turns
from vla.data.vqa.images import batch_images, cut_into_tiles, image_size, load_image
from vla.data.vqa.processor import VQAProcessor
from vla.data.vqa.tiling import Tiling, num_tiles
from vla.errors import UserError


def test_tiles_are_the_recorded_ones() -> None:
    path = GOLDEN / "image_processor.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    names = sorted(name.removesuffix(".in") for name in tensors if name.endswith(".in"))
    for name in names:
        facts = json.loads(metadata[name])
        tiling = Tiling(facts["patch"], facts["max_side"], facts["resize_to_max_side_len"])
        image = load_image(Image.fromarray(tensors[f"{name}.in"].numpy()), tiling)
        tiles = cut_into_tiles(batch_images([image], tiling.tile), tiling.tile)
        torch.testing.assert_close(tiles, tensors[f"{name}.tiles"], rtol=0, atol=1e-6)
        assert len(tiles) == facts["n_tiles"] == num_tiles(tuple(facts["grid"]))
    assert names


def test_pictures_of_different_grids_keep_their_order() -> None:
    generator = np.random.default_rng(0)
    sides = [(32, 48), (16, 16), (32, 48), (48, 16), (16, 16)]
    images = [generator.integers(0, 256, (3, *size), dtype=np.uint8) for size in sides]
    batched = batch_images(images, 16)
    assert [*batched] == ["1x1", "2x3", "3x1", "order"] and batched["2x3"].shape == (2, 3, 32, 48)
    together = cut_into_tiles(batched, 16)
    apart = torch.cat([cut_into_tiles(batch_images([image], 16), 16) for image in images])
    assert torch.equal(together, apart) and together.shape == (7 + 1 + 7 + 4 + 1, 3, 16, 16)
    assert len(cut_into_tiles(batch_images(images, 16, whole=False), 16, whole=False)) == 6 + 1 + 6 + 3 + 1
    assert cut_into_tiles(batch_images([], 16), 16).shape == (0, 3, 16, 16)


def test_image_strings_are_the_recorded_ones(golden: Callable[[str], Any]) -> None:
    recorded = golden("vqa_dataset")
    for key, kind in (("image_strings", "global-grid"), ("image_strings_without_global_token", "grid")):
        for case in recorded[key]:
            assert image_string(case["counts"], case["n"], kind) == case["string"]
    assert image_string([(1, 1)], 2, "single") == "<|image|><|image|>"


def test_ids_and_labels_are_the_recorded_ones(golden: Callable[[str], Any], processor: VQAProcessor) -> None:
    """Recorded with transformers 4.57; the same under 5, where the published code learns from no token at all."""
    recorded = golden("vqa_dataset")
    options = recorded["image_processor"]
    assert processor.tiling == Tiling(
        options["splitted_image_size"], options["max_img_size"], options["resize_to_max_side_len"]
    )
    for case in recorded["items"]:
        item = {"texts": [{"user": a, "assistant": b} for a, b in case["texts"]], **(case["ratings"] or {})}
        minima = {name.removesuffix("_min_rating"): value for name, value in case["thresholds"].items()}
        grids = [processor.tiling.grid(*size[:2]) for size in case["image_sizes_hw(,1=grayscale)"]]
        ids, labels = processor.tokenize(kept_turns(item, RatingsConfig(**minima)), grids)
        result = case["result"]
        shifted = np.append(labels[1:], IGNORE_INDEX)
        assert (ids.tolist(), shifted.tolist()) == (result["input_ids"], result["labels"])
        assert [num_tiles(grid) for grid in grids] == result["tiles_per_image"]
        assert processor.image_mask(ids, grids).sum() == processor.num_image_places(grids)
        assert processor.tokenizer.decode(ids) == result["decoded"]


def test_turns_with_low_ratings_are_left_out() -> None:
    item = {
        "texts": [{"user": str(number), "assistant": "x"} for number in range(5)],
        "relevance_ratings": [5, 1, None, 3],
        "formatting_ratings": None,
        "visual_dependency_ratings": [3, 3, 3, 0, 3],
    }
    assert [asked for asked, _ in kept_turns(item, RatingsConfig())] == ["0", "1", "2", "4"]
    assert [asked for asked, _ in kept_turns(item, RatingsConfig(relevance=2))] == ["0", "2", "4"]
    assert kept_turns(item, RatingsConfig(visual_dependency=4)) == []
    assert kept_turns({"texts": None}, RatingsConfig()) == []


def test_an_answer_that_joins_its_head_is_learned_from_its_first_letter() -> None:
    """A tokenizer that makes one token of two line breaks: the head's and the answer's."""

    def encode(text: str) -> list[int]:
        pieces = text.replace("\n\n", "#")
        return [ord(letter) for letter in pieces]

    ids, labels = chatml([("a", "\nb")], "", encode)
    learned = [number for number, label in zip(ids, labels, strict=True) if label != IGNORE_INDEX]
    assert "".join(map(chr, learned)) == "\nb<|im_end|>\n"


def test_no_picture_in_front_of_a_later_question(processor: VQAProcessor) -> None:
    ids, _ = processor.tokenize([("a?", "b"), ("c?", "d")], [(1, 1)])
    text = processor.tokenizer.decode(ids)
    assert text.count("<|global_image|>") == 1 and "<|image|>a?" in text and "user\nc?" in text
    prompt = processor.prompt_ids("c?", [(1, 1)], [("a?", "b")])
    assert text.startswith(processor.tokenizer.decode(prompt)) and prompt.tolist() == ids[: len(prompt)].tolist()


def test_the_prompt_of_a_question_is_what_training_saw(processor: VQAProcessor) -> None:
    for other in (processor, make_processor(image_tokens="none", prompt="question-answer", max_image_side=16)):
        grids = [(1, 1)]
        ids, labels = other.tokenize([("What is it?", "A cat")], grids)
        prompt = other.prompt_ids("What is it?", grids)
        first = int(np.flatnonzero(labels != IGNORE_INDEX)[0])
        assert prompt.tolist() == ids[:first].tolist()
        assert other.decode(labels[first:]) == "A cat"


def test_embeddings_in_front_of_the_text() -> None:
    other = make_processor(image_tokens="none", prompt="question-answer", max_image_side=16)
    ids, labels = other.tokenize([("What is it?", "A cat")], [(1, 1)])
    assert other.image_mask(ids, [(1, 1)]).tolist() == [True] * 2 + [False] * (len(ids) - 2)
    assert other.tokenizer.decode(ids[2:]) == "Question: What is it? Answer:A cat<|im_end|>"
    assert NanoVLM222MConfig().processor.image_tokens == "none"
    assert (labels[:2] == IGNORE_INDEX).all()


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    tiling = Tiling(16, 48, resize_to_max=False)
    gray = Image.fromarray(np.arange(40 * 25, dtype=np.uint8).reshape(40, 25) // 4)
    gray.save(tmp_path / "gray.png")
    encoded = (tmp_path / "gray.png").read_bytes()
    kinds = [gray, str(tmp_path / "gray.png"), tmp_path / "gray.png", encoded, {"bytes": encoded, "path": None}]
    loaded = [load_image(kind, tiling) for kind in kinds]
    assert all(np.array_equal(loaded[0], other) for other in loaded) and loaded[0].shape == (3, 48, 32)
    assert image_size({"bytes": None, "path": str(tmp_path / "gray.png")}) == (40, 25)
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert load_image(clear, tiling)[:, 5, 5].tolist() == [255, 0, 0]
    turned = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert (
        image_size(tmp_path / "turned.jpg") == (40, 20) and load_image(tmp_path / "turned.jpg", tiling).shape[1] == 48
    )
    for bad in (b"no picture", 7, {"bytes": None, "path": None}):
        with pytest.raises((OSError, TypeError)):
            image_size(bad)


def test_saved_and_loaded(processor: VQAProcessor, tmp_path: Path) -> None:
    processor.save(tmp_path)
    loaded = load_processor(tmp_path)
    assert isinstance(loaded, VQAProcessor)
    assert loaded == processor and loaded.contract() == processor.contract()
    ids = processor.tokenize([("What is <b>?", "it")], [(2, 1)])[0]
    assert loaded.tokenize([("What is <b>?", "it")], [(2, 1)])[0].tolist() == ids.tolist()
    content = json.loads((tmp_path / "processor.json").read_text())
    content["tokenizer"]["hash"] = "other"
    (tmp_path / "processor.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the tokenizer was changed"):
        VQAProcessor.load(tmp_path)
    (tmp_path / "processor.json").write_text('{"format": 1, "kind": "language"}')
    with pytest.raises(UserError, match="not the processor file of a nanoVLM"):
        VQAProcessor.load(tmp_path)


def test_of_the_tiny_model() -> None:
    """Over bytes; the tokens of turns are tokens of their own there, too."""
    config = NanoVLMTinyConfig()
    processor = VQAProcessor.from_config(config)
    assert len(processor.tokenizer) == config.llm_backbone.vocab_size + config.llm_backbone.num_extra_tokens
    ids, labels = processor.tokenize([("ab", "é")], [(1, 1)])
    assert len(ids) == 1 + len("user\n") + 1 + 4 + 2 + 1 + 1 + 1 + len("assistant\n") + 2 + 2
    assert processor.decode(labels[labels != IGNORE_INDEX]) == "é"
    with pytest.raises(UserError, match="has 327 ids .* vocabulary is 300"):
        VQAProcessor(config.processor, config.vision_backbone.transforms, 4, 300, processor.tokenizer)
