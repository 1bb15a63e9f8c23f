"""A run that begins with a checkpoint's weights refuses to show them something else, unless the field is named."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toys import toy_config, toy_datasets, toy_strategy

from vla.conf.models.base import LanguageProcessorConfig, ProcessorConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.contract import refuse_other_processor
from vla.data.conventions import LIBERO_CONVENTIONS
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.errors import UserError
from vla.overwatch.distributed import DistState
from vla.training import pretrain
from vla.training.run_contract import refuse_other_contract

CONVENTIONS = replace(LIBERO_CONVENTIONS, image_shape=(128, 128))


def processor(seed: int = 0, conventions: Any = CONVENTIONS, **config: Any) -> Processor:
    settings = ProcessorConfig(**config)
    values = np.random.default_rng(seed).normal(size=(50, settings.action_dim))
    return Processor(settings, 8, {"actions": ArrayStatistics.of(values)}, conventions)


def begin(checkpoint: Path, here: Processor, *override: str) -> None:
    datasets: Any = SimpleNamespace(processor=here, train=SimpleNamespace(conventions=here.conventions))
    refuse_other_contract(PretrainConfig(override_contract=override), datasets, checkpoint)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    processor().save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "field, value",
    [
        ("action_dim", 8),
        ("cameras", ("agentview",)),
        ("cameras", ("eye_in_hand", "agentview")),
        ("image_size", 112),
        ("orientation", "rotate_180"),
        ("normalization", "bounds"),
        ("num_frames", 2),
    ],
)
def test_another_processor_is_refused(checkpoint: Path, field: str, value: Any) -> None:
    refuse_unless_named(checkpoint, processor(**{field: value}), f"processor.{field}")


@pytest.mark.parametrize(
    "field, value",
    [("gripper_open", 1.0), ("image_shape", (256, 256)), ("camera_orientation", "top_down"), ("rotation", "euler")],
)
def test_data_of_another_meaning_is_refused(checkpoint: Path, field: str, value: Any) -> None:
    changes: Any = {field: value}
    refuse_unless_named(checkpoint, processor(conventions=replace(CONVENTIONS, **changes)), f"conventions.{field}")


def refuse_unless_named(checkpoint: Path, here: Processor, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} .* in the checkpoint, .* in this run; .*--override_contract {name}$"):
        begin(checkpoint, here)
    with pytest.raises(UserError, match=name):
        begin(checkpoint, here, name.partition(".")[2], "processor.resize")  # half a name, and another one
    begin(checkpoint, here, name)


def test_every_difference_is_told(checkpoint: Path) -> None:
    with pytest.raises(UserError) as caught:
        begin(checkpoint, processor(image_size=112, normalization="none"), "processor.normalization")
    assert "processor.image_size 224 in the checkpoint, 112 in this run" in str(caught.value)
    assert "processor.normalization" not in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_run_may_have_of_its_own(checkpoint: Path) -> None:
    """Its data's statistics, which it is trained with; augmentation; what the model doesn't look at."""
    begin(checkpoint, processor(seed=1, augmentation=True, max_instruction_tokens=9))
    begin(checkpoint, processor(conventions=replace(CONVENTIONS, proprio_names=("joint",))))
    begin(checkpoint, processor(conventions=replace(CONVENTIONS, image_shape=None)))


def test_contracts_of_other_kinds_are_not_compared(tmp_path: Path) -> None:
    """A vision-language model becomes a policy; a run folder of Prismatic's holds no contract."""
    language = {"kind": "language", "config": vars(LanguageProcessorConfig()), "prompt": "pure"}
    refuse_other_processor(language, processor().contract())
    begin(tmp_path, processor())
    other = language | {"prompt": "vicuna", "config": {**language["config"], "max_length": 7}}
    with pytest.raises(UserError, match="prompt pure in the checkpoint, vicuna in this run"):
        refuse_other_processor(language, other)
    refuse_other_processor(language, other, ("prompt",))


def test_a_run_is_refused_before_its_model_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And names the field that its user has to."""
    config = toy_config(tmp_path / "first", max_steps=1)
    toy_strategy(config).run_training()
    data = toy_datasets()
    seen = replace(data.processor, config=replace(data.processor.config, image_size=16))
    built: list[Path] = []
    monkeypatch.setattr(pretrain, "get_datasets", lambda *arguments: replace(data, processor=seen))
    monkeypatch.setattr(pretrain, "_get_model", lambda config, resume_from, source: built.append(source) or exit(0))
    second = replace(config, run_id="second", pretrained_checkpoint=config.run_dir)
    with pytest.raises(UserError, match=r"processor.image_size 8 in the checkpoint, 16 in this run; .*processor.image"):
        pretrain.build_strategy(second, DistState())
    with pytest.raises(SystemExit):
        pretrain.build_strategy(replace(second, override_contract=("processor.image_size",)), DistState())
    assert [path.name for path in built] == ["step-000001"]
