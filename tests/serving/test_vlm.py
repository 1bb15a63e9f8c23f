"""`vla.load` and what it gives: text about pictures, in batches, with probabilities, and as it comes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import vla
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.data.language.processor import LanguageProcessor
from vla.errors import UserError
from vla.models.vlms.prismatic import PrismaticVLM
from vla.models.weights.prismatic import write_prismatic
from vla.serving.vlm import VLM

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "prismatic"
PUBLISHED = json.loads((GOLDEN / "registry.json").read_text())["released"]
TOKENIZER = str(GOLDEN / "tokenizer")


@pytest.fixture(scope="module")
def model() -> PrismaticVLM:
    """The golden cases' model."""
    config = PrismTinyConfig()
    model = PrismaticVLM(replace(config, llm_backbone=replace(config.llm_backbone, tokenizer=TOKENIZER)))
    golden = load_file(GOLDEN / "vlm_dev_siglip_mixed.safetensors")
    model.load_state_dict({name[2:]: value for name, value in golden.items() if name.startswith("w.")})
    return model.eval()


@pytest.fixture(scope="module")
def vlm(model: PrismaticVLM) -> VLM:
    return VLM(model, LanguageProcessor.from_config(model.config))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (40, 30 + shade), (shade, 120, 255 - shade)) for shade in (0, 90, 200)]


def ask(vlm: VLM, question: str) -> str:
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", question)
    return builder.get_prompt()


def test_a_batch_gives_what_each_gives_alone(vlm: VLM, pictures: list[Image.Image]) -> None:
    prompts = [ask(vlm, question) for question in ("What is shown?", "Where is the red cube now?", "Why")]
    images = [pictures[0], None, pictures[2]]
    together = vlm.generate_batch(images, prompts, max_new_tokens=6)
    alone = [vlm.generate(image, prompt, max_new_tokens=6) for image, prompt in zip(images, prompts, strict=True)]
    assert together == alone and len(set(together)) == 3


def test_a_dialogue_is_a_prompt_too(vlm: VLM, pictures: list[Image.Image]) -> None:
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", "What is shown?")
    from_dialogue = vlm.generate(pictures[0], builder, max_new_tokens=4)
    assert from_dialogue == vlm.generate(pictures[0], builder.get_prompt(), max_new_tokens=4)


def test_pieces_add_up_to_the_text(vlm: VLM, pictures: list[Image.Image]) -> None:
    pieces: list[str] = []
    text = vlm.generate(pictures[1], ask(vlm, "What?"), on_text=pieces.append, max_new_tokens=8)
    assert len(pieces) > 1 and "".join(pieces).strip() == text


def test_probabilities_of_answers(vlm: VLM, pictures: list[Image.Image]) -> None:
    prompts, images = [ask(vlm, "Is it red?"), ask(vlm, "Is it?")], pictures[:2]
    answers = ["red", "is", "cube"]
    texts, probabilities = vlm.generate_batch(images, prompts, return_string_probabilities=answers, max_new_tokens=2)
    assert len(texts) == 2
    tokenizer = vlm.processor.tokenizer
    ids = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
    for row, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        views = {tower: torch.from_numpy(view)[None] for tower, view in vlm.processor.image(image).items()}
        read = vlm.model.read_prompts([vlm.processor.prompt_ids(prompt)], vlm.processor.pixels(views))
        hidden = vlm.model.llm_backbone(read.embeds, read.attention_mask)[0, -1]
        whole = vlm.model.llm_backbone.logits(hidden).softmax(-1)[[token for (token,) in ids]]
        assert probabilities[row] == pytest.approx((whole / whole.sum()).tolist(), rel=1e-4)
    with pytest.raises(UserError, match="must be of one token each, 'red cube' is of 2"):
        vlm.generate_batch(images, prompts, return_string_probabilities=["red cube"])
    with pytest.raises(UserError, match="images: must be 2, one per prompt, got 1"):
        vlm.generate_batch(images[:1], prompts)


def test_a_picture_may_be_a_file(vlm: VLM, pictures: list[Image.Image], tmp_path: Path) -> None:
    pictures[0].save(tmp_path / "a.png")
    prompt = ask(vlm, "What?")
    assert vlm.generate(tmp_path / "a.png", prompt, max_new_tokens=3) == vlm.generate(
        pictures[0], prompt, max_new_tokens=3
    )
    (tmp_path / "b.png").write_text("no")
    with pytest.raises(UserError, match=r"image: .*b\.png can't be read"):
        vlm.generate(tmp_path / "b.png", prompt)


def test_published_run_folders_load(vlm: VLM, pictures: list[Image.Image], tmp_path: Path) -> None:
    write_prismatic(vlm.model, tmp_path, stage="finetune")
    loaded = vla.load(tmp_path, tokenizer=TOKENIZER)
    prompt = ask(vlm, "What is shown?")
    assert loaded.generate(pictures[0], prompt, max_new_tokens=6) == vlm.generate(pictures[0], prompt, max_new_tokens=6)
    assert vla.load(tmp_path, tokenizer=TOKENIZER, precision="bf16").generate(pictures[0], prompt, max_new_tokens=2)


def test_a_system_prompt_needs_a_format_with_a_place_for_it(vlm: VLM) -> None:
    vicuna = VLM(vlm.model, replace(vlm.processor, prompt="vicuna"))
    builder = vicuna.get_prompt_builder("Be brief.")
    builder.add_turn("human", "Hi")
    assert builder.get_prompt() == "Be brief. USER: Hi ASSISTANT:"


def test_published_names_and_descriptions() -> None:
    assert list(vla.available_models()) == [name for name in vla.available_models() if name in PUBLISHED]
    for model_id, published in PUBLISHED.items():
        assert list(vla.available_models()[model_id]) == published["names"]
        assert vla.describe(model_id) == {key: value for key, value in published.items() if key != "names"}
    assert vla.describe("vggt-tiny")["system"] == "AtlasVLA"
    with pytest.raises(UserError, match=r"^model: must be one of .*did you mean 'prism-dinosiglip\+7b'\?"):
        vla.describe("prism-dinosigli+7b")


def test_what_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"^model: there is no folder prism, and an id must be one of .*, got 'prism'"):
        vla.load("prism")
    with pytest.raises(UserError, match=r"^model: no weights were released of prism-tiny; pass the folder of a run"):
        vla.load("prism-tiny")
    with pytest.raises(UserError) as caught:
        vla.load("prism-dinosiglip+7b")
    assert str(caught.value) == (
        "prism-dinosiglip+7b/config.json of 'TRI-ML/prismatic-vlms' is not in the Hugging Face cache, and "
        "HF_HUB_OFFLINE forbids asking the hub; pass a folder with config.json and checkpoints/latest-checkpoint.pt"
    )


def test_a_missing_tokenizer_is_named(vlm: VLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_prismatic(vlm.model, tmp_path, stage="finetune")
    with pytest.raises(UserError, match=r"^model\.llm_backbone\.tokenizer: no tokenizer in .*; pass tokenizer=DIR$"):
        vla.load(tmp_path, tokenizer=str(tmp_path))


def test_names_and_descriptions_need_no_torch() -> None:
    program = "import sys, vla; vla.describe('phi-2+3b'); vla.available_models(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
