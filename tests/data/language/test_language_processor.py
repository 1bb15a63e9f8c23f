"""Dialogues as tokens, and the file that a LanguageProcessor is saved in."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from language_files import CASES, NAMES, PLAIN, make_processor

from vla.batches import IGNORE_INDEX
from vla.conf.models.base import LanguageProcessorConfig
from vla.data.language.processor import LanguageProcessor
from vla.data.materialize import load_processor
from vla.errors import UserError
from vla.prompting import PROMPT_BUILDERS


def turns_of(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(turn["from"], turn["value"]) for turn in row["conversations"]]


def model_config(**changes: Any) -> SimpleNamespace:
    """What a vision-language model's configuration says."""
    llm = SimpleNamespace(tokenizer=None, weights="owner/name", prompt="vicuna", pad_token="<PAD>")
    vision = SimpleNamespace(transforms={"a": PLAIN, "b": PLAIN}, num_patches=16)
    settings = {"llm_backbone": llm, "vision_backbone": vision, "processor": LanguageProcessorConfig(max_length=9)}
    return SimpleNamespace(**{**settings, "pretrained": False, **changes})


class TestTokens:
    @pytest.mark.parametrize("number", range(5))
    @pytest.mark.parametrize("builder", NAMES)
    def test_dialogues_are_the_published_ones(self, builder: str, number: int) -> None:
        row, expected = CASES["finetune_examples"][number], CASES["finetune"][builder][number]
        ids, labels = make_processor(NAMES[builder]).tokenize_dialogue(turns_of(row))
        assert ids == expected["input_ids"] and labels == expected["labels"]

    @pytest.mark.parametrize("number", range(2))
    def test_captions_are_the_published_ones(self, number: int) -> None:
        caption = CASES["align_examples"][number]["conversations"][1]["value"]
        ids, labels = make_processor().tokenize_caption(caption)
        assert {"input_ids": ids, "labels": labels} == CASES["align"][number]

    @pytest.mark.parametrize("name", PROMPT_BUILDERS)
    def test_what_is_learned_follows_the_prompt(self, name: str) -> None:
        """A dialogue up to an answer is, token for token, the prompt that the model is given for it."""
        processor = make_processor(name, max_length=2048)
        turns = [("human", "<image>\nWhat is it?"), ("gpt", "A red cube."), ("human", "Where is it?"), ("gpt", "Here")]
        ids, labels = processor.tokenize_dialogue(turns)
        builder = processor.prompt_builder()
        for role, message in turns[:3]:
            builder.add_turn(role, message)
        prompt = processor.prompt_ids(builder)
        assert ids[: len(prompt)] == prompt and prompt[0] == processor.tokenizer.bos_token_id
        assert labels[len(prompt) :] == ids[len(prompt) :]
        assert processor.prompt_ids(builder.get_prompt()) == prompt

    def test_bytes_have_no_beginning_of_their_own(self) -> None:
        processor = make_processor(tokenizer="bytes")
        ids, labels = processor.tokenize_dialogue([("human", "a"), ("gpt", "b")])
        assert ids == [1, *(ord(letter) + 3 for letter in "In: a\nOut:b"), 1]
        assert labels == [IGNORE_INDEX] * (len(ids) - 2) + ids[-2:]
        assert processor.tokenize_caption(" b ") == ([1, 101, 1], [IGNORE_INDEX, 101, 1])

    def test_phi_keeps_the_space_that_it_was_trained_with(self) -> None:
        processor = make_processor("phi", tokenizer="bytes")
        ids, _ = processor.tokenize_dialogue([("human", "a"), ("gpt", "b")])
        # this tokenizer drops the line break before its end token
        assert ids == [1, *(ord(letter) + 3 for letter in "Input: a\nOutput: b"), 1]
        # as published, the text of a prompt ends without it
        builder = processor.prompt_builder()
        assert processor.prompt_ids(builder.get_potential_prompt("a")) == ids[:-3]

    def test_long_rows_are_cut(self) -> None:
        processor = make_processor(max_length=5)
        ids, labels = processor.tokenize_dialogue([("human", "a cat"), ("gpt", "red cube")])
        assert len(ids) == len(labels) == 5
        assert len(processor.tokenize_caption("a cat sitting on the ground")[0]) == 5


class TestFile:
    def test_saved_and_loaded_is_equal(self, tmp_path: Path) -> None:
        processor = make_processor("vicuna", {"a": PLAIN, "b": replace(PLAIN, size=4)}, system_prompt="Be brief.")
        assert processor.save(tmp_path) == tmp_path / "processor.json"
        loaded = load_processor(tmp_path)
        assert loaded == processor and loaded.contract() == processor.contract()
        assert json.loads((tmp_path / "processor.json").read_text()) == processor.contract()
        row = turns_of(CASES["finetune_examples"][0])
        assert loaded.tokenize_dialogue(row) == processor.tokenize_dialogue(row)
        assert loaded.pad_id == processor.pad_id == 512

    def test_bytes_saved_and_loaded(self, tmp_path: Path) -> None:
        processor = make_processor(tokenizer="bytes")
        processor.save(tmp_path)
        assert load_processor(tmp_path).contract() == processor.contract()

    def test_pickle(self) -> None:
        processor = make_processor()
        copy = pickle.loads(pickle.dumps(processor))
        assert copy == processor and copy.tokenize_caption("a cat") == processor.tokenize_caption("a cat")

    def test_changed_tokenizer_is_noticed(self, tmp_path: Path) -> None:
        make_processor().save(tmp_path)
        make_processor(tokenizer="bytes").tokenizer.save_pretrained(tmp_path / "tokenizer")
        (tmp_path / "tokenizer" / "tokenizer.json").unlink()
        with pytest.raises(UserError, match="the tokenizer was changed after it was saved"):
            load_processor(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda values: values.update(format=99), "not a language processor file"),
            (lambda values: values.update(kind="sound"), "kind 'sound'"),
            (lambda values: values["config"].update(max_length=-1), "not a language processor file"),
            (lambda values: values["transforms"]["siglip"].pop("mean"), "not a language processor file"),
            (lambda values: values.pop("prompt"), "not a language processor file"),
        ],
    )
    def test_damaged_file(self, tmp_path: Path, change: Callable[[dict], None], message: str) -> None:
        path = make_processor().save(tmp_path)
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))
        with pytest.raises(UserError, match=message) as raised:
            load_processor(tmp_path)
        assert "processor.json" in str(raised.value) and "\n" not in str(raised.value)

    def test_no_json(self, tmp_path: Path) -> None:
        (tmp_path / "processor.json").write_text("[1,")
        with pytest.raises(UserError, match="processor.json: can't be read"):
            load_processor(tmp_path)
        with pytest.raises(FileNotFoundError):
            load_processor(tmp_path / "nowhere")

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        make_processor().save(tmp_path)
        for path in (tmp_path / "tokenizer").iterdir():
            path.unlink()
        with pytest.raises(UserError, match="no tokenizer in"):
            load_processor(tmp_path)


class TestOfAModel:
    def test_parts_come_from_the_configuration(self) -> None:
        processor = LanguageProcessor.from_config(model_config())
        assert (processor.prompt, processor.num_image_tokens, list(processor.transforms)) == ("vicuna", 16, ["a", "b"])
        assert len(processor.tokenizer) == 260 and processor.config.max_length == 9  # bytes and a padding token
        assert processor.prompt_builder().eos == processor.tokenizer.eos_token

    def test_missing_tokenizer_names_the_field(self) -> None:
        with pytest.raises(UserError, match=r"^model\.llm_backbone\.tokenizer: no tokenizer in 'owner/name'"):
            LanguageProcessor.from_config(model_config(pretrained=True))

    def test_system_prompt_without_a_place(self) -> None:
        with pytest.raises(UserError, match=r"^model\.processor\.system_prompt: the prompt format 'pure' "):
            make_processor("pure", system_prompt="Be brief.")
        builder = make_processor("vicuna", system_prompt="Be brief.").prompt_builder()
        assert builder.get_potential_prompt("a").startswith("Be brief. USER: a")
