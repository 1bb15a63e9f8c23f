"""What is saved is everything, and loads back to an equal value; the shipped files load."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.conf import cli
from vla.conf.datasets import DatasetRegistry, LiberoMiniConfig
from vla.conf.models import ModelRegistry
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.components import ActionHeadConfig, ChunkHeadConfig, FlowHeadConfig, PoseGripperHeadConfig
from vla.conf.pretrain import TRACKERS, PretrainConfig
from vla.conf.registry import available
from vla.conf.stage import OptimizerConfig, ScheduleConfig, Stage, StageConfig
from vla.conf.strategies import DDPConfig, FSDPFullShardConfig, FSDPShardGradOpConfig, StrategyRegistry

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def assert_round_trip(config: Any, folder: Path) -> str:
    path = folder / "run" / "config.yaml"
    cli.save(config, path)
    assert cli.load(type(config), path) == config
    assert [item.name for item in path.parent.iterdir()] == ["config.yaml"]
    return path.read_text()


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("model", ModelRegistry)
def test_every_model(model: ModelRegistry, stage: Stage, tmp_path: Path) -> None:
    config = PretrainConfig(model=model.value(), stage=stage)
    text = assert_round_trip(config, tmp_path)
    assert f"type: {model.model_id}\n" in text
    assert f"stage: {stage.value}\n" in text


@pytest.mark.parametrize("dataset", DatasetRegistry)
def test_every_dataset(dataset: DatasetRegistry, tmp_path: Path) -> None:
    model = next(member.value for member in ModelRegistry if member.value.task == dataset.value.task)
    assert_round_trip(PretrainConfig(model=model(), dataset=dataset.value()), tmp_path)


@pytest.mark.parametrize("strategy", StrategyRegistry)
def test_every_strategy(strategy: StrategyRegistry, tmp_path: Path) -> None:
    model = VGGTTinyConfig(align=dataclasses.replace(VGGTTinyConfig().align, strategy=strategy.value()))
    text = assert_round_trip(PretrainConfig(model=model), tmp_path)
    assert f"type: {strategy.strategy_id}\n" in text


@pytest.mark.parametrize("name", available(ActionHeadConfig))
def test_every_action_head(name: str, tmp_path: Path) -> None:
    head = ActionHeadConfig.get_choice_class(name)()
    assert_round_trip(PretrainConfig(model=VGGTTinyConfig(action_head=head)), tmp_path)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda path: path.name)
def test_shipped_files(path: Path, tmp_path: Path) -> None:
    assert_round_trip(cli.load(PretrainConfig, path), tmp_path)


def test_class_variables_are_not_written() -> None:
    text = cli.dump(PretrainConfig())
    for name in ("target", "model_id", "dataset_id", "strategy_id", "module_groups", "task"):
        assert f" {name}:" not in text


def test_saving_replaces_a_file_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    cli.save(PretrainConfig(seed=1), path)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        cli.save(PretrainConfig(seed=2), path)
    monkeypatch.undo()
    assert cli.load(PretrainConfig, path).seed == 1


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
words = st.sampled_from(
    ["none", "null", "~", "true", "no", "1e-4", "007", "0x1", "a: b", "[a]", "{a", "#", "'", "- a", "\x85"]
)
names = st.one_of(words, text)
positive = st.floats(min_value=1e-300, max_value=1e300, allow_subnormal=False)
fractions = st.floats(0, 1, exclude_max=True)
groups = st.sampled_from(VGGTTinyConfig.module_groups)
paths = st.builds(Path, names.filter(lambda name: "\0" not in name))
strategies = st.one_of(
    st.builds(DDPConfig, bucket_cap_mb=st.integers(1, 99)),
    st.builds(FSDPFullShardConfig),
    st.builds(FSDPShardGradOpConfig),
)
stages = st.builds(
    StageConfig,
    trainable=st.lists(groups, min_size=1).map(tuple),
    max_steps=st.none() | st.integers(1, 10**9),
    learning_rate=positive,
    lr_multipliers=st.dictionaries(groups, positive),
    max_grad_norm=st.none() | positive,
    optimizer=st.builds(OptimizerConfig, betas=st.tuples(fractions, fractions), eps=positive),
    schedule=st.builds(ScheduleConfig, milestones=st.sets(st.integers(0, 999)).map(lambda steps: tuple(sorted(steps)))),
    gradient_checkpointing=st.booleans(),
    strategy=strategies,
)
heads = st.one_of(
    st.builds(PoseGripperHeadConfig, pose_weight=positive),
    st.builds(ChunkHeadConfig, chunk_size=st.integers(1, 64)),
    st.builds(FlowHeadConfig, dropout=fractions),
)
configs = st.builds(
    PretrainConfig,
    model=st.builds(VGGTTinyConfig, align=stages, full_finetune=stages, action_head=heads),
    dataset=st.builds(LiberoMiniConfig, root=st.none() | paths, tasks=st.lists(names).map(tuple)),
    stage=st.sampled_from(Stage),
    run_id=st.none() | names,
    run_root_dir=paths,
    seed=st.integers(),
    trackers=st.lists(st.sampled_from(TRACKERS)).map(tuple),
    wandb_project=names | st.just(""),
)


@given(config=configs)
def test_any_configuration(config: PretrainConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    cli.save(config, path)
    assert cli.load(PretrainConfig, path) == config
    assert cli.parse(PretrainConfig, [], config) == config
