"""Dialogues as text, compared with what the published builders wrote."""

import json
from pathlib import Path

import pytest

from vla.prompting import PROMPT_BUILDERS, PromptBuilder, get_prompt_builder

GOLDEN = json.loads((Path(__file__).parent / "golden" / "prismatic" / "prompts.json").read_text(encoding="utf-8"))
NAMES = {
    "pure": "pure", "llama2_chat": "llama2-chat", "vicuna_v15": "vicuna", "mistral_instruct": "mistral-instruct",
    "phi2": "phi",
}  # fmt: skip
HELD_OUT = {
    "heldout_3turn": [
        ("human", "Hi there"), ("gpt", "Hello!"), ("human", "What colour\nis the bowl?"), ("gpt", "Black.\nReally."),
        ("human", "Thanks"), ("gpt", "You are welcome"),
    ],
    "heldout_open": [("human", "What action should the robot take to pick up the mug?")],
}  # fmt: skip


def label(case: dict) -> str:
    return "-".join(str(case[key]) for key in ("family", "builder", "dialogue", "system_prompt"))


def published_case(case: dict) -> dict:
    """The case, or, where the original failed to find a system prompt for OpenVLA, the same one of Prismatic."""
    if "error" not in case:
        return case
    keys = ("builder", "dialogue", "system_prompt")
    return next(
        other
        for other in GOLDEN["cases"]
        if other["family"] == "prismatic" and all(other[key] == case[key] for key in keys)
    )


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=label)
def test_prompts_are_the_published_ones(case: dict) -> None:
    expected = published_case(case)
    builder = get_prompt_builder(NAMES[case["builder"]], case["system_prompt"])
    assert builder.get_potential_prompt("Probe?") == expected["potential_first"]
    turns = GOLDEN["dialogues"].get(case["dialogue"]) or HELD_OUT[case["dialogue"]]
    assert [builder.add_turn(*turn) for turn in turns] == builder.turns == expected["turns"]
    assert builder.get_prompt() == expected["prompt"]
    if "potential_next" in expected:
        assert builder.get_potential_prompt("Probe?") == expected["potential_next"]
        assert builder.get_prompt() == expected["prompt"]


def test_every_builder_has_golden_prompts() -> None:
    assert set(NAMES.values()) == set(PROMPT_BUILDERS)
    assert {case["builder"] for case in GOLDEN["cases"]} == set(NAMES)


@pytest.mark.parametrize("name", PROMPT_BUILDERS)
def test_roles_take_turns(name: str) -> None:
    builder = get_prompt_builder(name)
    with pytest.raises(ValueError, match="turn 0 must be from 'human', got 'gpt'"):
        builder.add_turn("gpt", "I begin")
    builder.add_turn("human", "I do")
    with pytest.raises(ValueError, match="turn 1 must be from 'gpt', got 'human'"):
        builder.add_turn("human", "and go on")
    assert len(builder.turns) == 1


@pytest.mark.parametrize("name", PROMPT_BUILDERS)
def test_messages_are_cleaned(name: str) -> None:
    plain, written = get_prompt_builder(name), get_prompt_builder(name)
    assert plain.get_potential_prompt("What?") == written.get_potential_prompt(" <image>\nWhat? ")
    assert plain.add_turn("human", "What?") == written.add_turn("human", "<image>\nWhat?\n")


def test_an_empty_system_prompt_is_the_default() -> None:
    for name, builder in PROMPT_BUILDERS.items():
        assert get_prompt_builder(name, "").get_potential_prompt("a") == get_prompt_builder(name).get_potential_prompt(
            "a"
        )
        changed = get_prompt_builder(name, "Be brief.").get_potential_prompt("a")
        assert ("Be brief." in changed) == builder.takes_system_prompt


@pytest.mark.parametrize("name", PROMPT_BUILDERS)
def test_end_tokens_of_other_tokenizers(name: str) -> None:
    builder = get_prompt_builder(name, bos="<begin>", eos="<end>")
    builder.add_turn("human", "a")
    assert builder.add_turn("gpt", "b").endswith("<end>")
    assert ("<begin>" in builder.get_prompt()) == (name == "phi")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt must be one of pure, llama2-chat, .*, got 'gemma'"):
        get_prompt_builder("gemma")


def test_the_base_writes_nothing() -> None:
    with pytest.raises(NotImplementedError):
        PromptBuilder().add_turn("human", "a")
