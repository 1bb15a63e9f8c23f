"""nanoVLM at work: batches, dialogues, probabilities of answers, runs of the toolkit, questions about pictures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from llava_files import write_llava
from PIL import Image

import vla
from vla.conf.models.nanovlm import NanoVLMTinyConfig
from vla.conf.pretrain import EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.questions import QuestionsConfig
from vla.conf.stage import Stage
from vla.conf.vqa_datasets import LlavaVQAConfig, PackingConfig
from vla.data.vqa.processor import VQAProcessor
from vla.errors import UserError
from vla.models.materialize import get_model
from vla.serving import question_answering
from vla.serving.nanovlm import NanoVLMSession
from vla.training import pretrain


@pytest.fixture(scope="module")
def session() -> NanoVLMSession:
    config = NanoVLMTinyConfig()
    model = get_model(config, seed=5).eval()
    for number, parameter in enumerate(model.parameters()):  # random answers that depend on everything
        torch.nn.init.normal_(parameter, std=0.15, generator=torch.Generator().manual_seed(2000 + number))
    return NanoVLMSession(model, VQAProcessor.from_config(config))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (40, 30 + shade), (shade, 120, 255 - shade)) for shade in (0, 90, 200)]


def test_a_batch_gives_what_each_gives_alone(session: NanoVLMSession, pictures: list[Image.Image]) -> None:
    questions = ["What is shown?", "Where is the red cube now?", "Why"]
    images = [pictures[0], None, pictures[2]]
    options = {"max_new_tokens": 8, "min_new_tokens": 8}
    together = session.generate_batch(images, questions, **options)
    alone = [session.generate(image, text, **options) for image, text in zip(images, questions, strict=True)]
    assert together == alone and len(set(together)) == 3 and all(together)
    told: list[str] = []
    session.generate(images[2], questions[2], on_text=told.append, **options)
    assert "".join(told) == together[2] and len(told) > 1


def test_a_published_folder_is_loaded_as_it_is(
    session: NanoVLMSession, pictures: list[Image.Image], tmp_path: Path
) -> None:
    session.model.save_pretrained(tmp_path / "published")
    loaded = vla.load(tmp_path / "published")
    options = {"max_new_tokens": 8, "min_new_tokens": 8}
    assert loaded.generate(pictures[0], "Why?", **options) == session.generate(pictures[0], "Why?", **options)
    assert not loaded.model.training


def test_dialogues(session: NanoVLMSession, pictures: list[Image.Image]) -> None:
    dialogue = session.get_prompt_builder()
    with pytest.raises(ValueError, match="ends with what 'human' says"):
        session.generate(pictures[0], dialogue)
    dialogue.add_turn("human", "<image>\nWhat is it?")
    first = session.generate(pictures[0], dialogue, max_new_tokens=4)
    assert first == session.generate(pictures[0], "What is it?", max_new_tokens=4)
    dialogue.add_turn("gpt", "A cat.")
    dialogue.add_turn("human", "Where?")
    assert session.generate(pictures[0], dialogue, max_new_tokens=4) is not None


def test_probabilities_and_drawing(session: NanoVLMSession, pictures: list[Image.Image]) -> None:
    _, shares = session.generate_batch(
        pictures, ["Is it?"] * 3, return_string_probabilities=["y", "n"], max_new_tokens=1
    )
    assert [sum(row) for row in shares] == pytest.approx([1, 1, 1])
    draws = [session.generate(pictures[0], "?", max_new_tokens=8, temperature=5.0, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1]


def test_a_run_answers_questions_about_pictures(tmp_path: Path) -> None:
    root = write_llava(tmp_path / "data").root
    tiny = NanoVLMTinyConfig()
    data = LlavaVQAConfig(
        root=root, validation_annotations=None, validation_fraction=0.25,
        packing=PackingConfig(buffer_size=8, streams=1),
    )  # fmt: skip
    config = PretrainConfig(
        model=replace(tiny, full_finetune=replace(tiny.full_finetune, max_steps=2)), dataset=data,
        stage=Stage.FULL_FINETUNE, run_root_dir=tmp_path / "runs", device="cpu", trackers=("jsonl",), report=False,
        loader=LoaderConfig(num_workers=0), evaluation=EvaluationConfig(every_epochs=None),
    )  # fmt: skip
    assert pretrain.run(config) == 0
    assert isinstance(vla.load(config.run_dir), NanoVLMSession)
    asked = QuestionsConfig(checkpoint=config.run_dir, questions=root / "finetune.json", max_pictures=2, device="cpu")
    assert question_answering.run(asked) == 0
    results = json.loads((config.run_dir / "evaluation" / "questions" / "results.json").read_text())
    assert len(results["answers"]) >= 2


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        vla.load(tmp_path / "nowhere")
