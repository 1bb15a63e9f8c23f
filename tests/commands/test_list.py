"""`vla list`: a row for everything that is registered, with facts of its configuration."""

import json
from pathlib import Path

import pytest

from vla.commands import catalog
from vla.commands import list as list_command
from vla.commands.count_parameters import count
from vla.commands.main import main
from vla.conf.datasets import DatasetConfig
from vla.conf.models import ModelConfig, ModelRegistry
from vla.conf.strategies import StrategyConfig


def table(capsys, *words: str) -> list[list[str]]:
    assert main(["list", *words]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("what", "base"), [("models", ModelConfig), ("datasets", DatasetConfig), ("strategies", StrategyConfig)]
)
def test_a_row_for_every_choice(capsys, what: str, base) -> None:
    header, *rows = table(capsys, what)
    assert tuple(header) == catalog.COLUMNS[what]
    assert [row[0] for row in rows] == list(base.get_known_choices())
    assert all(len(row) == len(header) for row in rows)


def test_facts_of_models(capsys) -> None:
    rows = {row[0]: row[1:] for row in table(capsys)}
    assert rows["vggt-llama-7b"][0] == "AtlasVLA"
    assert rows["vggt-llama-7b"][2] == "2 cameras x 2 frames, 518 px; instruction"
    assert rows["vggt-llama-7b"][3] == "every stage: 50 epochs of 32, lr 0.0001, bf16"
    assert rows["vggt-llama-7b"][4] == "meta-llama/Llama-2-7b-hf; facebook/VGGT-1B"
    assert rows["vggt-tiny"][4] == "random" and rows["openvla-7b"][4] == "openvla/openvla-7b"
    assert rows["prism-dinosiglip+7b"][4].startswith(
        "released: Prism-DINOSigLIP 7B; timm/vit_large_patch14_reg4_dinov2"
    )
    assert rows["uniad-efficientnet-b4"][2] == "image, 224 x 224 px"
    assert rows["nanovlm-460m"][2] == "images, tiles of 512 px; text, 4,096 tokens"


def test_search_and_json(capsys) -> None:
    assert main(["list", "datasets", "--search", "LIBERO-mini", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["id"] == "libero-mini" and row["needs"] == "nothing: ships with the repository"


def test_a_terminal_gets_a_table(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    assert list_command.list_registered(list_command.ListConfig(what="models", search="uniad")) == 0
    text = capsys.readouterr().out
    assert "uniad-efficientnet-b4" in text and "─" in text and "3 rows" in text


def test_unknown_registry(capsys) -> None:
    assert main(["list", "robots"]) == 2
    assert capsys.readouterr().err == "error: what: must be one of models, datasets, strategies, got 'robots'\n"


@pytest.mark.parametrize("model_id", ["vggt-tiny", "prism-tiny", "nanovlm-tiny", "uniad-tiny"])
def test_counts_are_those_of_the_models(model_id: str) -> None:
    config = next(member.value for member in ModelRegistry if member.model_id == model_id)()
    assert json.loads(catalog.PARAMETERS.read_text())[model_id] == count(config)


def test_counts_are_shown_with_three_digits(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "_counts", lambda: {"a": 7_811_703_833, "b": 135_000_000, "c": 999, "d": 1_057})
    assert [catalog._parameters(name) for name in "abcde"] == ["7.81 G", "135 M", "999", "1.06 k", ""]
