"""What every registered model promises; small ones are trained, stopped, resumed, evaluated and reported."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models import ModelConfig, ModelRegistry
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model

SMALL = 20_000_000  # parameters that train in seconds on a CPU
MODELS = [member.model_id for member in ModelRegistry]
DEMONSTRATIONS = sorted(LiberoMiniConfig().root.glob("*_demo.hdf5"))


def model_config(model_id: str) -> ModelConfig:
    """The model's configuration as registered."""
    return ModelConfig.get_choice_class(model_id)()


def is_small(config: ModelConfig) -> bool:
    """Whether the model needs no published weights and little time."""
    if config.pretrained or type(config).task != "action":
        return False
    return sum(parameter.numel() for parameter in get_model(config, device="meta").parameters()) < SMALL


def run_config(model: ModelConfig, stage: Stage, run_root: Path, steps: int, **values: object) -> PretrainConfig:
    """A run of a few steps on one task of libero-mini."""
    budget = {"max_steps": steps, "global_batch_size": 4, "per_device_batch_size": 2, "precision": "fp32"}
    model = replace(model, **{stage.field_name: replace(model.stage(stage), **budget)})
    return PretrainConfig(
        model=model,
        dataset=LiberoMiniConfig(tasks=(DEMONSTRATIONS[0].name.removesuffix("_demo.hdf5"),), max_episodes_per_task=2),
        stage=stage,
        run_id="a-run",
        run_root_dir=run_root,
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
    argv = ["--model.type", model_id, "--stage", stage.value, "--seed", "3"]
    if type(model_config(model_id)).task == "action":
        argv += ["--dataset.type", "libero-mini"]
    config = cli.parse(PretrainConfig, argv)
    assert type(config.model).model_id == model_id and config.stage is stage and config.seed == 3
    cli.save(config, tmp_path / "config.yaml")
    assert cli.load(PretrainConfig, tmp_path / "config.yaml") == config


@pytest.mark.parametrize("model_id", MODELS)
def test_groups_partition_the_parameters(model_id: str) -> None:
    config = model_config(model_id)
    model = get_model(config, device="meta")
    groups = model.module_groups()
    assert tuple(groups) == type(config).module_groups
    owners = Counter(id(parameter) for module in groups.values() for parameter in set(module.parameters()))
    assert set(owners) == {id(parameter) for parameter in model.parameters()}
    assert set(owners.values()) == {1}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("model_id", MODELS)
def test_every_stage_applies(model_id: str, stage: Stage) -> None:
    config = model_config(model_id)
    model = get_model(config, device="meta")
    trained = config.stage(stage).trained_groups
    table = apply_stage(model, config.stage(stage))
    assert {row.name for row in table if row.trainable} == trained
    model.train()
    for name, module in model.module_groups().items():
        assert module.training == (name in trained)
    assert all(unit in set(model.modules()) for unit in model.fsdp_units())


@pytest.mark.skipif(not DEMONSTRATIONS, reason="libero-mini is not here")
@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("model_id", MODELS)
def test_trains_resumes_evaluates_and_reports(model_id: str, stage: Stage, tmp_path: Path) -> None:
    from vla.conf.evaluate import EvaluateConfig
    from vla.reporting import write_report
    from vla.training import evaluate, pretrain

    model = model_config(model_id)
    if not is_small(model):
        pytest.skip("needs weights, or a while")
    config = run_config(model, stage, tmp_path, steps=2, report=False)
    assert pretrain.run(config) == 0
    assert cli.load(PretrainConfig, config.run_dir / "config.yaml") == config
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
    assert metrics["num_actions"] == 16 and metrics["translation_l1"] > 0


@pytest.mark.skipif(not DEMONSTRATIONS, reason="libero-mini is not here")
def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    from vla.errors import UserError
    from vla.training import pretrain

    config = run_config(model_config("vggt-tiny"), Stage.ALIGN, tmp_path, steps=1, report=False)
    assert pretrain.run(config) == 0
    with pytest.raises(UserError, match="--resume auto"):
        pretrain.run(config)
