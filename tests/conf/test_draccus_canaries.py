"""What of draccus the configuration leans on, and what it makes up for: a release that changes it is found here."""

from dataclasses import dataclass

import draccus
import pytest
from draccus.utils import is_choice_type

from vla.conf.models import ModelConfig
from vla.conf.models.atlas import AtlasVLAConfig, VGGTTinyConfig
from vla.conf.stage import Stage, StageConfig


@dataclass
class Words:
    words: tuple[str, ...] = ()


def test_registries() -> None:
    assert draccus.CHOICE_TYPE_KEY == "type"
    assert ModelConfig.get_known_choices() is ModelConfig.get_known_choices()  # plug-ins are added to it
    assert ModelConfig.get_choice_class("vggt-tiny") is VGGTTinyConfig
    # Only the base of a registry is a choice; a field that is declared as anything below it takes that class alone.
    assert is_choice_type(ModelConfig)
    assert not is_choice_type(AtlasVLAConfig) and not is_choice_type(VGGTTinyConfig)


def test_decoding_takes_plain_values() -> None:
    stage = draccus.decode(StageConfig, {"trainable": ["fusion"], "strategy": {"type": "ddp"}, "max_steps": None})
    assert stage == StageConfig(trainable=("fusion",))
    assert draccus.decode(Stage, "full-finetune") is Stage.FULL_FINETUNE


def test_a_refused_value_is_the_cause_of_an_error_without_its_path() -> None:
    with pytest.raises(draccus.ParsingError, match="Couldn't instantiate class StageConfig") as error:
        draccus.decode(ModelConfig, {"type": "vggt-tiny", "align": {"learning_rate": -1.0}})
    assert str(error.value.__cause__) == "learning_rate: must be > 0, got -1.0"


def test_what_the_command_line_makes_up_for() -> None:
    assert draccus.decode(Words, {"words": "jsonl"}) == Words(("j", "s", "o", "n", "l"))
    assert draccus.encode(Stage.ALIGN) == "ALIGN"
    with pytest.raises(KeyError):
        draccus.decode(Stage, "foo")
    # A group that is given in part loses the variant's values for the rest.
    model = draccus.decode(ModelConfig, {"type": "vggt-tiny", "align": {"trainable": ["fusion"]}})
    assert model.align.epochs == StageConfig().epochs != VGGTTinyConfig().align.epochs
