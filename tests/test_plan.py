"""The plan of a dry run: exact where it counts, honest where it can't, fast, and without a trace on disk."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distinct_models import distinct_models
from rich.console import Console

from vla.conf import cli
from vla.conf.datasets import LiberoMiniConfig, LiberoSpatialConfig, LlavaV15Config
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ModelConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.stage import ScheduleConfig, Stage, StageConfig
from vla.conf.strategies import FSDPFullShardConfig, FSDPShardGradOpConfig, StrategyConfig
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.training.example_batch import example_batch
from vla.training.memory import Activations, count_activations, estimate_memory, tensor_bytes
from vla.training.optim import get_optimizer, parameter_owners
from vla.training.plan import Plan, make_plan
from vla.training.plan_display import print_plan, size, sparkline
from vla.training.plan_rates import rate_curve

NO_DATA = LiberoSpatialConfig()
EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def _config(stage: Stage = Stage.ALIGN, model: ModelConfig | None = None, **values: object) -> PretrainConfig:
    """A run of `model` (vggt-tiny) without data, with `values` in its stage."""
    model = model or VGGTTinyConfig()
    model = replace(model, **{stage.field_name: replace(model.stage(stage), **values)})
    data = {"dataset": NO_DATA} if type(model).task == "action" else {}
    return PretrainConfig(model=model, stage=stage, **data)


def _real_model(config: PretrainConfig) -> BaseModel:
    model = get_model(config.model, seed=0)
    apply_stage(model, config.stage_config)
    return model.train()


def _real_activations(config: PretrainConfig) -> Activations:
    model = _real_model(config)
    batch = example_batch(config.model, config.stage_config.per_device_batch_size)
    return count_activations(model, lambda: model(batch), config.stage_config)


def _text(plan: Plan, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO())
    print_plan(plan, console)
    return console.file.getvalue()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("kind", [VGGTTinyConfig, PrismTinyConfig])
def test_activations_are_those_of_a_real_step(kind: type[ModelConfig], stage: Stage, precision: str) -> None:
    config = _config(stage, kind(), precision=precision, global_batch_size=4, per_device_batch_size=4)
    real, memory = _real_activations(config), make_plan(config).memory
    assert memory.activations == pytest.approx(real.kept, rel=0.01)
    assert memory.copies == pytest.approx(real.copies, rel=0.01)
    assert (memory.copies > 0) == (precision == "bf16")


def test_weights_gradients_and_optimizer_are_those_of_a_real_step() -> None:
    config = _config(Stage.FINETUNE, precision="fp32")
    model = _real_model(config)
    optimizer = get_optimizer(model, config.stage_config, parameter_owners(model))
    output = model(example_batch(config.model, 2))
    output.step_loss.sum().backward()
    optimizer.step()
    memory = make_plan(config).memory
    states = [value for state in optimizer.state.values() for value in state.values()]
    assert memory.weights == tensor_bytes(model.parameters()) + tensor_bytes(model.buffers())
    assert memory.gradients == tensor_bytes(p for p in model.parameters() if p.requires_grad)
    assert memory.optimizer == tensor_bytes(states)


def test_checkpointing_keeps_less() -> None:
    values = {"global_batch_size": 4, "per_device_batch_size": 4}
    whole = make_plan(_config(Stage.FULL_FINETUNE, **values)).memory.activations
    recomputed = make_plan(_config(Stage.FULL_FINETUNE, gradient_checkpointing=True, **values)).memory.activations
    assert whole is not None and recomputed is not None and recomputed < 0.7 * whole


def test_activations_grow_with_the_batch() -> None:
    small, large = (
        make_plan(_config(global_batch_size=8, per_device_batch_size=size)).memory.activations for size in (2, 8)
    )
    assert small is not None and large is not None and 3.5 < large / small < 4.5


@pytest.mark.parametrize("strategy", [FSDPFullShardConfig(), FSDPShardGradOpConfig()])
def test_fsdp_cuts_states_and_gathers_blocks(strategy: StrategyConfig) -> None:
    config = _config(Stage.FULL_FINETUNE, strategy=strategy, per_device_batch_size=2, global_batch_size=8)
    model = _real_model(config)
    stage = config.stage_config
    alone = estimate_memory(model, replace(stage, strategy=StageConfig().strategy), 1, None)
    cut = estimate_memory(model, stage, 4, None)
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(cut, name) == pytest.approx(getattr(alone, name) / 4, rel=0.01)
    whole = tensor_bytes(model.parameters())
    assert cut.copies == whole if strategy == FSDPShardGradOpConfig() else 0 < cut.copies < whole
    accumulated = estimate_memory(model, stage, 2, None)
    assert accumulated.gradients == alone.gradients  # not reduced before the last micro-batch


def test_steps_and_learning_rate_with_data(tmp_path: Path) -> None:
    config = PretrainConfig(dataset=LiberoMiniConfig())
    if not list(config.dataset.root.glob("*.hdf5")):
        pytest.skip("libero-mini is not here")
    plan = make_plan(config)
    stage = config.stage_config
    assert plan.num_samples is not None and plan.steps_per_epoch == -(-plan.num_samples // stage.global_batch_size)
    assert plan.total_steps == plan.steps_per_epoch * stage.epochs
    assert plan.rates.values[0] == 0 and plan.rates.span == f"steps 0 to {plan.total_steps - 1:,}"
    assert {name: rate for name, _, rate in plan.rates.points}["end of warm-up"] == stage.learning_rate


def test_language_data_is_counted_without_a_tokenizer(tmp_path: Path) -> None:
    """6 of 10 rows have an image: batches of 4 of either kind, the last one of the images filled up."""
    rows = [{"conversations": [{"from": "human", "value": "A?"}, {"from": "gpt", "value": "B."}]} for _ in range(10)]
    for row in rows[:6]:
        row["image"] = "1.png"
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    dataset = LlavaV15Config(
        root=tmp_path, align_annotations="rows.json", finetune_annotations="rows.json", finetune_images="."
    )
    (tmp_path / "1.png").touch()  # never opened
    config = replace(_config(Stage.FINETUNE, PrismTinyConfig(), global_batch_size=4), dataset=dataset)
    plan = make_plan(replace(config, run_root_dir=tmp_path, world_size=1))
    assert (plan.num_samples, plan.steps_per_epoch, plan.total_steps) == (10, 3, 6)
    text = _text(plan, 400)
    assert "256 tokens of text" in text and "before it can run: pretrained_checkpoint: stage finetune" in text


def test_batch_over_processes_and_scaled_learning_rate() -> None:
    config = replace(
        _config(max_steps=100, global_batch_size=32, per_device_batch_size=4, lr_scaling="linear"), world_size=2
    )
    plan = make_plan(config)
    assert (plan.world_size, plan.accumulation, plan.total_steps) == (2, 4, 100)
    assert plan.learning_rate == pytest.approx(2 * config.stage_config.learning_rate)
    assert "32 = 4 per device x 4 accumulation x 2 processes" in _text(plan)


def test_a_batch_that_cannot_be_cut_is_an_error_of_one_line() -> None:
    config = replace(_config(global_batch_size=32, per_device_batch_size=16), world_size=3)
    with pytest.raises(UserError, match=r"^model\.align\.global_batch_size: .* got 32$"):
        make_plan(config)


def test_without_data_the_number_of_steps_is_unknown() -> None:
    plan = make_plan(_config())
    assert plan.total_steps is None
    text = _text(plan)
    assert "unknown (4 epochs)" in text and "--dataset.root" in text
    assert "in epochs" in text and f"over {plan.rates.span}" in text and sparkline(plan.rates.values) in text


@pytest.mark.parametrize(
    ("schedule", "span", "points"),
    [
        (
            ScheduleConfig("cosine", warmup_steps=2000),
            "steps 0 to 2,000, then, on another scale, the rest of 50 epochs",
            {"step 0": 0, "step 2,000": 1, "to epoch 50": 0.5, "epoch 50": 0},
        ),
        (
            ScheduleConfig("linear", warmup_ratio=0.1, min_lr_ratio=0.2),
            "epochs 0 to 50",
            {"epoch 5": 1, "epoch 25": 1 - 0.8 * 4 / 9, "epoch 50": 0.2},
        ),
        (ScheduleConfig("constant"), "epochs 0 to 50", {"epoch 0": 1, "epoch 25": 1, "epoch 50": 1}),
        (
            ScheduleConfig("step", step_size=1000, gamma=0.5, warmup_steps=100),
            "steps 0 to 3,750, if there are as many",
            {"step 0": 0, "step 100": 1, "step 1,000": 0.5, "step 2,000": 0.25, "step 3,000": 0.125},
        ),
        (
            ScheduleConfig("multistep", milestones=(400, 800), warmup_ratio=0.1),
            "steps 0 to 1,000, if there are as many, without the warm-up",
            {"step 0": 1, "step 400": 0.1, "step 800": 0.01},
        ),
        (
            ScheduleConfig("multistep", milestones=(40, 60), unit="epochs"),
            "epochs 0 to 50",
            {"epoch 0": 1, "epoch 40": 0.1},
        ),
    ],
    ids=lambda value: value.name if isinstance(value, ScheduleConfig) else "",
)
def test_learning_rates_of_an_unknown_number_of_steps(
    schedule: ScheduleConfig, span: str, points: dict[str, float]
) -> None:
    curve = rate_curve(schedule, 1.0, None, 50)
    assert curve.span == span and len(curve.values) == 48
    assert max(curve.values) == pytest.approx(1, rel=0.01)
    assert {when: rate for _, when, rate in curve.points} == pytest.approx(points, abs=1e-6)


def test_data_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    config = replace(_config(), dataset=LiberoSpatialConfig(root=tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere") as raised:
        make_plan(config)
    assert "\n" not in str(raised.value)


def test_a_model_that_cannot_be_counted_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla.models.vlas.atlas.AtlasVLA.forward", lambda self, batch, request="loss": 1 / 0)
    plan = make_plan(_config())
    assert plan.memory.activations is None
    assert "unknown" in _text(plan) and "activations are not known" in _text(plan, 200)


@pytest.mark.parametrize("model_id", distinct_models(vision=False))
def test_any_registered_model(model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = ModelConfig.get_choice_class(model_id)()
    data = {"dataset": NO_DATA} if type(model).task == "action" else {}
    plan = make_plan(PretrainConfig(model=model, **data))
    text = _text(plan)
    assert plan.memory.activations
    assert sum(row.trainable for row in plan.groups) > 0
    assert all(name in text for name in model.module_groups)
    assert not list(tmp_path.iterdir())
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_experiments(path: Path) -> None:
    processes = re.search(r"--nproc_per_node (\d+)", path.read_text())  # of the command that the file tells
    config = replace(cli.load(PretrainConfig, path), world_size=int(processes[1]) if processes else 1)
    if config.dataset.root is not None and not config.dataset.root.exists():  # still to be recorded
        config = replace(config, dataset=replace(config.dataset, root=None))
    plan = make_plan(config)
    stage = config.stage_config
    assert {row.name for row in plan.groups if row.total} >= stage.trained_groups - {"neck"}  # which has no parameters
    assert all((row.trainable > 0) == (row.name in stage.trained_groups and row.total > 0) for row in plan.groups)
    assert plan.accumulation * plan.world_size * stage.per_device_batch_size == stage.global_batch_size
    assert plan.memory.activations
    text = _text(plan)
    for name in ("Parameters by module group", "global batch", "steps per epoch", "Learning rate", "Memory per device"):
        assert name in text


def test_display_of_sizes_and_curves() -> None:
    assert [size(n) for n in (0, 999, 1024, 5 * 2**20, 1000 * 2**20)] == ["0 B", "999 B", "1 KiB", "5 MiB", "0.977 GiB"]
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.0, 0.0]) == "▁▁"
