"""Which data a run learns from that names none: some for models of its task."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from vla.conf import cli
from vla.conf.datasets import LiberoMiniConfig, LiberoSpatialConfig, LlavaLRVConfig, LlavaV15Config
from vla.conf.models import ModelConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import PretrainConfig


def dataset(line: str, defaults: PretrainConfig | None = None) -> object:
    return cli.parse(PretrainConfig, line.split(), defaults).dataset


@pytest.mark.parametrize("kind", [VGGTTinyConfig, PrismTinyConfig])
def test_follows_the_models_task(kind: type[ModelConfig], tmp_path: Path) -> None:
    expected = LiberoMiniConfig() if kind is VGGTTinyConfig else LlavaV15Config()
    assert PretrainConfig(model=kind()).dataset == expected
    assert dataset(f"--model.type {kind.model_id}") == expected
    path = tmp_path / "config.yaml"
    path.write_text(f"model:\n  type: {kind.model_id}\n")
    config = cli.load(PretrainConfig, path)
    cli.save(config, path)
    assert f"type: {type(expected).dataset_id}" in path.read_text() and cli.load(PretrainConfig, path) == config


def test_fields_without_a_type_are_of_that_dataset() -> None:
    assert dataset("--model.type prism-tiny --dataset.root x") == LlavaV15Config(root=Path("x"))
    assert dataset("--dataset.root x --model.type prism-tiny") == LlavaV15Config(root=Path("x"))
    assert dataset("--dataset.root x") == LiberoMiniConfig(root=Path("x"))


def test_what_is_said_wins() -> None:
    assert dataset("--model.type prism-tiny --dataset.type llava-lrv") == LlavaLRVConfig()
    with pytest.raises(ValueError, match="dataset.type: must be a dataset for language models, got 'action'"):
        dataset("--model.type prism-tiny --dataset.type libero-mini")


def test_a_programs_own_default_gives_way_only_to_another_task() -> None:
    program = PretrainConfig(dataset=LiberoSpatialConfig(validation_episodes=3))
    assert dataset("", program) == dataset("--model.type vggt-llama-7b", program) == program.dataset
    assert dataset("--model.type prism-tiny", program) == LlavaV15Config()


def test_a_task_without_one_says_so() -> None:
    @dataclass(frozen=True)
    class Juggler(VGGTTinyConfig):
        task: ClassVar[str] = "juggling"

    with pytest.raises(ValueError, match="dataset.type: must be a dataset for juggling models"):
        PretrainConfig(model=Juggler())
