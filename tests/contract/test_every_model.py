"""What every registered model promises; small ones are trained, stopped, resumed, evaluated and reported."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from distinct_models import distinct_models
from llava_files import write_llava

from vla.conf import cli
from vla.conf.datasets import DatasetConfig, LiberoMiniConfig, MVTecADConfig
from vla.conf.models import ModelConfig, ModelRegistry
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.render_defects import RenderDefectsConfig
from vla.conf.stage import Stage
from vla.conf.vqa_datasets import LlavaVQAConfig, PackingConfig
from vla.data.defects.writing import write_dataset
from vla.models.base import BaseModel
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model

SMALL = 20_000_000  # parameters that train in seconds on a CPU
MODELS = [member.model_id for member in ModelRegistry]
DEMONSTRATIONS = sorted(LiberoMiniConfig().root.glob("*_demo.hdf5"))


def model_config(model_id: str) -> ModelConfig:
    """The model's configuration as registered."""
    return ModelConfig.get_choice_class(model_id)()


@cache
def meta_model(model_id: str) -> BaseModel:
    """The model without memory."""
    return get_model(model_config(model_id), device="meta")


def is_small(model_id: str) -> bool:
    """Whether the model needs no published weights and little time."""
    if model_config(model_id).pretrained:
        return False
    return sum(parameter.numel() for parameter in meta_model(model_id).parameters()) < SMALL


TRAINED = [model_id for model_id in MODELS if is_small(model_id)]


def dataset_for(model: ModelConfig, folder: Path) -> DatasetConfig:
    """Something small to learn for a model of its task; what has to be written for it is below `folder`."""
    if type(model).task == "language":
        return write_llava(folder)
    if type(model).task == "anomaly":
        return render_defects(folder)
    if type(model).task == "vqa":
        packing = PackingConfig(buffer_size=8, streams=1)
        return LlavaVQAConfig(
            root=write_llava(folder).root, validation_annotations=None, validation_fraction=0.25, packing=packing
        )
    if not DEMONSTRATIONS:
        pytest.skip("libero-mini is not here")
    task = DEMONSTRATIONS[0].name.removesuffix("_demo.hdf5")
    return LiberoMiniConfig(tasks=(task,), max_episodes_per_task=2)


def render_defects(folder: Path) -> MVTecADConfig:
    """A dozen pictures of wood and of a capsule, some with defects."""
    write_dataset(
        RenderDefectsConfig(folder, classes=("wood", "capsule"), train=3, test_good=1, test_bad=1, image_size=64)
    )
    return MVTecADConfig(root=folder)


def run_config(model: ModelConfig, stage: Stage, folder: Path, steps: int, **values: object) -> PretrainConfig:
    """A run of a few steps."""
    budget = {"max_steps": steps, "global_batch_size": 4, "per_device_batch_size": 2, "precision": "fp32"}
    model = replace(model, **{stage.field_name: replace(model.stage(stage), **budget)})
    return PretrainConfig(
        model=model,
        dataset=dataset_for(model, folder / "data"),
        stage=stage,
        run_root_dir=folder / "runs",
        device="cpu",
        log_every_steps=1,
        trackers=("jsonl",),
        loader=LoaderConfig(num_workers=0),
        evaluation=EvaluationConfig(every_steps=2, every_epochs=None, max_batches=2),
        checkpoint=CheckpointConfig(every_steps=2, every_epochs=None),
        **values,
    )


def rows(run_dir: Path) -> list[dict]:
    """The run's metrics."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("model_id", MODELS)
def test_parses_dumps_and_reloads(model_id: str, stage: Stage, tmp_path: Path) -> None:
    """Without a dataset's name, too: there is one for every task."""
    config = cli.parse(PretrainConfig, ["--model.type", model_id, "--stage", stage.value, "--seed", "3"])
    assert type(config.model).model_id == model_id and config.stage is stage and config.seed == 3
    assert type(config.dataset).task == type(config.model).task
    cli.save(config, tmp_path / "config.yaml")
    assert cli.load(PretrainConfig, tmp_path / "config.yaml") == config
    assert f"type: {type(config.dataset).dataset_id}" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("model_id", distinct_models())
def test_groups_partition_the_parameters(model_id: str) -> None:
    model = meta_model(model_id)
    groups = model.module_groups()
    assert tuple(groups) == type(model_config(model_id)).module_groups
    owners = Counter(id(parameter) for module in groups.values() for parameter in set(module.parameters()))
    assert set(owners) == {id(parameter) for parameter in model.parameters()}
    assert set(owners.values()) == {1}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("model_id", distinct_models())
def test_every_stage_applies(model_id: str, stage: Stage) -> None:
    config, model = model_config(model_id), meta_model(model_id)
    trained = config.stage(stage).trained_groups
    table = apply_stage(model, config.stage(stage))
    assert {row.name for row in table if row.trainable} == trained & {row.name for row in table if row.total}
    model.train()
    for name, module in model.module_groups().items():
        assert module.training == (name in trained)
    assert all(unit in set(model.modules()) for unit in model.fsdp_units())


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("model_id", TRAINED)
def test_trains_resumes_evaluates_and_reports(model_id: str, stage: Stage, tmp_path: Path) -> None:
    from vla.conf.evaluate import EvaluateConfig
    from vla.reporting import write_report
    from vla.training import evaluate, pretrain

    model = model_config(model_id)
    before = model.stage_before(stage)
    if before is not None:  # it is found by its name
        assert pretrain.run(run_config(model, before, tmp_path, steps=2, report=False)) == 0
    config = run_config(model, stage, tmp_path, steps=2, report=False)
    assert pretrain.run(config) == 0
    saved = cli.load(PretrainConfig, config.run_dir / "config.yaml")
    assert (saved.pretrained_checkpoint is None) == (before is None)
    assert replace(saved, pretrained_checkpoint=None) == config
    assert (config.run_dir / "checkpoints" / "step-000002" / "manifest.json").is_file()
    assert pretrain.run(run_config(model, stage, tmp_path, steps=4, resume="auto"), write_report) == 0
    steps = [row["global_step"] for row in rows(config.run_dir) if "train/loss" in row]
    assert steps == [1, 2, 3, 4]
    assert [row["global_step"] for row in rows(config.run_dir) if "eval/loss" in row] == [2, 4]
    page = (config.run_dir / "report.html").read_text()
    assert 'class="notes"' not in page and model_id in page

    (config.run_dir / "evaluation" / "metrics.json").unlink()
    assert evaluate.run(EvaluateConfig(checkpoint=config.run_dir, device="cpu", max_batches=1), write_report) == 0
    metrics = json.loads((config.run_dir / "evaluation" / "metrics.json").read_text())
    assert metrics["loss"] > 0 and metrics["seconds"] > 0
    if type(model).task == "action":
        assert metrics["num_actions"] == 16 and metrics["translation_l1"] > 0
    elif type(model).task == "anomaly":
        assert metrics["num_samples"] == 11 and 0 <= metrics["pixel_auroc"] <= 1
    else:
        assert metrics["num_samples"] > 0 and metrics["perplexity"] > 1


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    from vla.errors import UserError
    from vla.training import pretrain

    config = run_config(model_config("vggt-tiny"), Stage.ALIGN, tmp_path, steps=1, report=False)
    assert pretrain.run(config) == 0
    with pytest.raises(UserError, match="--resume auto"):
        pretrain.run(config)
