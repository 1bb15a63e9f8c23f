"""The chat in the terminal: history, pictures, system prompts, streaming, and errors that end nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from vla.conf.generate import GenerateConfig
from vla.conf.models import ModelConfig
from vla.data.language.processor import LanguageProcessor
from vla.errors import UserError
from vla.models.materialize import get_model
from vla.serving import chat as chat_module
from vla.serving.chat import Chat, run
from vla.serving.vlm import VLM


@pytest.fixture(scope="module")
def vlm() -> VLM:
    config = ModelConfig.get_choice_class("prism-tiny")()
    return VLM(get_model(config).eval(), LanguageProcessor.from_config(config))  # type: ignore[arg-type]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return path


def settings(**values: object) -> GenerateConfig:
    return GenerateConfig(**{"model": "some/folder", "max_new_tokens": 6, **values})  # type: ignore[arg-type]


def converse(vlm: VLM, lines: list[str], monkeypatch: pytest.MonkeyPatch, **values: object) -> str:
    """What is written in a chat in which these lines are typed."""
    monkeypatch.setattr(chat_module, "load", lambda *args, **options: vlm)
    typed = iter(lines)
    written: list[str] = []

    def read(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    assert run(settings(device="cpu", **values), read, written.append) == 0
    return "".join(written)


def test_answers_are_streamed_and_remembered(vlm: VLM, picture: Path) -> None:
    written: list[str] = []
    chat = Chat(vlm, settings(image=picture), written.append)
    before = len(written)
    answer = chat.say("What is it?")
    assert "".join(written[before:]).strip() == answer
    assert answer == vlm.generate(picture, _asked(vlm, "What is it?"), max_new_tokens=6)
    history = chat.prompt.get_prompt()
    chat.say("And now?")
    assert chat.prompt.get_prompt().startswith(history) and "And now?" in chat.prompt.get_prompt()


def _asked(vlm: VLM, message: str):
    prompt = vlm.get_prompt_builder()
    prompt.add_turn("human", message)
    return prompt


def test_another_picture_begins_a_new_dialogue(vlm: VLM, picture: Path) -> None:
    chat = Chat(vlm, settings(), lambda text: None)
    chat.say("Hello")
    assert chat.command(f"/image {picture}") and chat.image == picture and chat.prompt.get_prompt() == ""
    assert chat.command("/image") and chat.image is None
    assert not chat.command("/quit")


def test_another_system_prompt_begins_a_new_dialogue(vlm: VLM) -> None:
    vicuna = VLM(vlm.model, replace(vlm.processor, prompt="vicuna"))
    chat = Chat(vicuna, settings(), lambda text: None)
    chat.say("Hello")
    usual = chat.prompt.get_prompt()
    assert chat.command("/system Be brief.") and chat.prompt.get_prompt() == ""
    chat.say("Hello")
    assert chat.prompt.get_prompt().startswith("Be brief. USER: Hello ASSISTANT:")
    assert chat.command("/system") and chat.say("Hello") is not None
    assert chat.prompt.get_prompt() == usual and not usual.startswith("Be brief.")
    assert chat.command("/new") and chat.prompt.get_prompt() == ""


def test_interruption_keeps_what_was_answered(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(image: object, prompt: object, *, on_text: Callable[[str], None], **sampling: object) -> str:
        on_text("a begin")
        raise KeyboardInterrupt

    monkeypatch.setattr(vlm, "generate", generate)
    written: list[str] = []
    chat = Chat(vlm, settings(), written.append)
    assert chat.say("Tell me all") == "a begin"
    assert "".join(written) == "a begin [stopped]\n"
    assert "a begin" in chat.prompt.get_prompt()


def test_errors_are_lines_of_the_chat(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    text = converse(
        vlm, ["/image nowhere.png", "/system Be kind.", "/dance", "/help", "/quit", "never read"], monkeypatch
    )
    assert "error: image: nowhere.png can't be read" in text
    assert "error: system: the prompt format of this model has no place for one, got 'Be kind.'" in text
    assert "error: command: /dance is not known; /help lists them" in text
    assert "/image FILE" in text and "Traceback" not in text


def test_chat_with_a_picture(vlm: VLM, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = converse(vlm, ["What is it?", "/history", ""], monkeypatch, image=picture)
    assert f"{picture}: 30 x 20 pixels" in text and "In: What is it?\nOut:" in text


def test_one_prompt_gives_one_answer(vlm: VLM, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = converse(vlm, [], monkeypatch, image=picture, prompt="What is it?")
    assert text.strip() == vlm.generate(picture, _asked(vlm, "What is it?"), max_new_tokens=6)


def test_wrong_picture_at_the_start_is_an_error(vlm: VLM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="image: .* can't be read"):
        Chat(vlm, settings(image=tmp_path / "none.png"), lambda text: None)
