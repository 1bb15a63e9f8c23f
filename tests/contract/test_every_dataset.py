"""What every registered dataset promises before any data is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.datasets import DatasetConfig, DatasetRegistry
from vla.conf.models import ModelConfig, ModelRegistry
from vla.conf.pretrain import PretrainConfig
from vla.conf.registry import resolve_target
from vla.conf.vqa_datasets import PackedDatasetRegistry
from vla.data.materialize import get_datasets

DATASETS = [member.dataset_id for member in (*DatasetRegistry, *PackedDatasetRegistry)]


def dataset_config(dataset_id: str, root: Path | None) -> DatasetConfig:
    """The dataset's configuration with its data at `root`."""
    return replace(DatasetConfig.get_choice_class(dataset_id)(), root=root)


def model_for(config: DatasetConfig) -> ModelConfig:
    """Some model of the dataset's task."""
    models = [member.value for member in ModelRegistry]
    return next(model for model in models if model.task == type(config).task)()


@pytest.mark.parametrize("dataset_id", DATASETS)
def test_constructs_dumps_and_reloads(dataset_id: str, tmp_path: Path) -> None:
    config = dataset_config(dataset_id, tmp_path)
    assert type(config).dataset_id == dataset_id
    run = PretrainConfig(model=model_for(config), dataset=config)
    cli.save(run, tmp_path / "config.yaml")
    assert cli.load(PretrainConfig, tmp_path / "config.yaml") == run
    assert callable(resolve_target(config).build)


@pytest.mark.parametrize("dataset_id", DATASETS)
@pytest.mark.parametrize("where", ["nowhere", "empty"])
def test_data_that_is_not_there_is_an_error_of_one_line(dataset_id: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = dataset_config(dataset_id, tmp_path / where)
    with pytest.raises(ValueError) as raised:
        get_datasets(config, model_for(config))
    message = str(raised.value)
    assert "dataset.root" in message and where in message and "\n" not in message


@pytest.mark.parametrize("dataset_id", DATASETS)
def test_no_root_says_what_to_pass(dataset_id: str) -> None:
    config = dataset_config(dataset_id, None)
    with pytest.raises(ValueError, match=r"dataset\.root") as raised:
        get_datasets(config, model_for(config))
    assert "\n" not in str(raised.value)
