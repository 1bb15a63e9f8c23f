"""Precedence, partial overrides of a variant's own values, and every spelling of a value."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.conf import cli
from vla.conf.models import ModelConfig
from vla.conf.models.atlas import VGGTLlama7BConfig, VGGTTinyConfig
from vla.conf.models.components import ChunkHeadConfig, FlowHeadConfig, PoseGripperHeadConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.stage import Stage, StageConfig
from vla.conf.strategies import DDPConfig, FSDPFullShardConfig


def parse(tmp_path: Path, text: str, *flags: str) -> PretrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return cli.parse(PretrainConfig, ["--config_path", str(path), *flags])


def flags(line: str) -> PretrainConfig:
    return cli.parse(PretrainConfig, line.split())


def test_nothing_given_is_the_default() -> None:
    assert cli.parse(PretrainConfig, []) == PretrainConfig()


def test_partial_override_keeps_the_variants_values(tmp_path: Path) -> None:
    config = parse(tmp_path, "model: {type: vggt-tiny, align: {learning_rate: 2e-3, schedule: {warmup_ratio: 0.5}}}")
    tiny = VGGTTinyConfig()
    assert config.model.align.learning_rate == 2e-3
    assert config.model.align.schedule.warmup_ratio == 0.5
    assert config.model.align.schedule.name == tiny.align.schedule.name
    assert config.model.align.epochs == tiny.align.epochs != StageConfig().epochs
    assert config.model.align.trainable == tiny.align.trainable
    assert (config.model.finetune, config.model.vggt) == (tiny.finetune, tiny.vggt)


def test_flags_without_the_type_change_the_default_variant() -> None:
    config = flags("--model.align.epochs 3 --model.vggt.embed_dim=128")
    assert isinstance(config.model, VGGTTinyConfig)
    assert (config.model.align.epochs, config.model.vggt.embed_dim, config.model.vggt.depth) == (3, 128, 2)


def test_other_variant_brings_its_own_values(tmp_path: Path) -> None:
    text = "model: {align: {epochs: 3}}"
    config = parse(tmp_path, text, "--model.type", "vggt-llama-7b", "--model.align.optimizer.eps", "1e-6")
    published = VGGTLlama7BConfig()
    assert type(config.model) is VGGTLlama7BConfig
    assert config.model.align.epochs == 3
    assert config.model.align.optimizer.eps == 1e-6
    assert config.model.align.optimizer.betas == published.align.optimizer.betas
    assert config.model.align.schedule == published.align.schedule
    assert config.model.llm == published.llm


def test_nested_choice_keeps_the_variants_values_while_its_type_stays() -> None:
    config = flags("--model.action_head.pose_weight 2")
    assert config.model.action_head == PoseGripperHeadConfig(hidden_dim=64, pose_weight=2.0)
    config = flags("--model.action_head.type pose-gripper --model.action_head.pose_weight 2")
    assert config.model.action_head == PoseGripperHeadConfig(hidden_dim=64, pose_weight=2.0)


def test_nested_choice_of_another_type_has_its_own_defaults() -> None:
    assert flags("--model.action_head.type chunk").model.action_head == ChunkHeadConfig()
    config = flags("--model.action_head.type flow --model.action_head.solver euler")
    assert config.model.action_head == FlowHeadConfig(solver="euler")
    strategy = flags("--model.align.strategy.type fsdp-full-shard").model.align.strategy
    assert strategy == FSDPFullShardConfig()


def test_command_line_over_file_over_program_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\nlog_every_steps: 1\n")
    defaults = {
        "seed": 2,
        "log_every_steps": 2,
        "model": {"type": "vggt-tiny"},
        "model.align.epochs": 2,
        "report": False,
    }
    argv = ["--seed", "0", "--config_path", str(path)]
    config = cli.parse(PretrainConfig, argv, defaults)
    assert (config.seed, config.log_every_steps, config.model.align.epochs, config.report) == (0, 1, 2, False)
    instance = cli.parse(PretrainConfig, argv, config)
    assert instance == config
    assert cli.parse(PretrainConfig, [], config) == config


def test_values_of_the_program_are_checked_too() -> None:
    with pytest.raises(cli.UserError, match="^sed: no such field, got '2'; did you mean 'seed'"):
        cli.parse(PretrainConfig, [], {"sed": 2})


def test_later_flags_win() -> None:
    assert flags("--seed 1 --seed=2").seed == 2
    argv = ["--model.align", "{epochs: 3, precision: bf16}", "--model.align.epochs", "4"]
    for line, epochs in ((argv, 4), ([*argv[2:], *argv[:2]], 3)):
        config = cli.parse(PretrainConfig, line)
        assert (config.model.align.epochs, config.model.align.precision) == (epochs, "bf16")


@pytest.mark.parametrize(
    ("line", "trackers"),
    [
        ("--trackers jsonl", ("jsonl",)),
        ("--trackers=jsonl", ("jsonl",)),
        ("--trackers jsonl,tensorboard", ("jsonl", "tensorboard")),
        ("--trackers=jsonl,tensorboard", ("jsonl", "tensorboard")),
        ("--trackers [jsonl,wandb]", ("jsonl", "wandb")),
        ("--trackers=[jsonl]", ("jsonl",)),
        ("--trackers [jsonl, wandb]", ("jsonl", "wandb")),
        ("--trackers jsonl, wandb", ("jsonl", "wandb")),
        ("--trackers jsonl wandb", ("jsonl", "wandb")),
        ("--trackers []", ()),
    ],
)
def test_lists_on_the_command_line(line: str, trackers: tuple[str, ...]) -> None:
    assert flags(line + " --seed 3") == cli.parse(PretrainConfig, [], {"trackers": trackers, "seed": 3})
    assert flags(line).trackers == trackers


@pytest.mark.parametrize("text", ["trackers: jsonl, wandb", "trackers: [jsonl, wandb]", "trackers:\n- jsonl\n- wandb"])
def test_lists_in_a_file(text: str, tmp_path: Path) -> None:
    assert parse(tmp_path, text).trackers == ("jsonl", "wandb")


def test_lists_of_numbers() -> None:
    assert flags("--model.align.optimizer.betas 0.8 0.9").model.align.optimizer.betas == (0.8, 0.9)
    assert flags("--model.align.optimizer.betas=0,1e-1").model.align.optimizer.betas == (0.0, 0.1)
    schedule = flags(
        "--model.align.schedule.milestones 5 10 --model.align.schedule.name multistep"
    ).model.align.schedule
    assert schedule.milestones == (5, 10)


@pytest.mark.parametrize(
    ("line", "dry_run", "report"),
    [
        ("--dry_run", True, True),
        ("--dry-run", True, True),
        ("--dry_run --report false", True, False),
        ("--report=false --dry-run=true", True, False),
        ("--report False", False, False),
    ],
)
def test_booleans(line: str, dry_run: bool, report: bool) -> None:
    config = flags(line)
    assert (config.dry_run, config.report) == (dry_run, report)


def test_dashes_in_groups_and_negative_numbers() -> None:
    config = flags("--model.full-finetune.learning-rate 3e-4 --seed -3 --stage full-finetune")
    assert (config.model.full_finetune.learning_rate, config.seed, config.stage) == (3e-4, -3, Stage.FULL_FINETUNE)


@pytest.mark.parametrize("stage", list(Stage))
def test_stages_by_value(stage: Stage, tmp_path: Path) -> None:
    assert flags(f"--stage {stage.value}").stage is stage
    assert parse(tmp_path, f"stage: {stage.value}").stage is stage


def test_yaml_traps(tmp_path: Path) -> None:
    text = """
run_id: 007
wandb_project: no
wandb_entity: 'null'
seed: 0o17
""".replace("0o17", "017")
    config = parse(tmp_path, text + "model: {align: {learning_rate: 1e-4, weight_decay: 1E-2, max_grad_norm: 1}}")
    assert (config.run_id, config.wandb_project, config.wandb_entity) == ("007", "no", "null")
    assert config.seed == 17  # not octal
    assert config.model.align.learning_rate == 1e-4
    assert config.model.align.weight_decay == 1e-2
    assert isinstance(config.model.align.max_grad_norm, float)


@pytest.mark.parametrize("null", ["null", "none", "None", "~", ""])
def test_none(null: str, tmp_path: Path) -> None:
    assert parse(tmp_path, f"model: {{align: {{max_grad_norm: {null}}}}}").model.align.max_grad_norm is None
    assert cli.parse(PretrainConfig, [f"--model.align.max_grad_norm={null}"]).model.align.max_grad_norm is None
    assert parse(tmp_path, f"dataset:\n  root: {null}").dataset.root is None  # type: ignore[attr-defined]


def test_empty_file_and_empty_groups(tmp_path: Path) -> None:
    assert parse(tmp_path, "") == parse(tmp_path, "# nothing\n") == parse(tmp_path, "model:\nloader: {}\n")


def test_anchors(tmp_path: Path) -> None:
    text = "model:\n  align: &stage {epochs: 3}\n  finetune: *stage\n"
    config = parse(tmp_path, text)
    assert config.model.align.epochs == config.model.finetune.epochs == 3


def test_home_folder_after_an_equals_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert flags("--dataset.root=~/libero").dataset.root == Path("/home/somebody/libero")  # type: ignore[attr-defined]


def test_dotted_keys_add_to_a_dict_and_a_whole_dict_replaces_it(tmp_path: Path) -> None:
    line = "--model.type vggt-llama-7b --model.full_finetune.lr_multipliers"
    assert flags(f"{line}.fusion 2").model.full_finetune.lr_multipliers == {
        "vision_backbone": 0.1,
        "llm_backbone": 0.1,
        "fusion": 2.0,
    }
    assert flags(f"{line} {{fusion: 2}}").model.full_finetune.lr_multipliers == {"fusion": 2.0}
    assert flags(f"{line} {{}}").model.full_finetune.lr_multipliers == {}
    text = "model: {type: vggt-llama-7b, full_finetune: {lr_multipliers: {llm_backbone: 0.5}}}"
    assert parse(tmp_path, text).model.full_finetune.lr_multipliers == {"llm_backbone": 0.5}


class Colour(Enum):
    RED = "r"
    BLUE = 2


@dataclass(frozen=True)
class Camera:
    """A camera."""

    name: str
    size: tuple[int, int] = (4, 4)


@dataclass(frozen=True)
class Everything:
    """Every kind of type that a plug-in's configuration may have."""

    camera: Camera
    colour: Colour = Colour.RED
    mode: Literal["fast", "slow", 3] = "fast"
    spare: Camera | None = None
    cameras: tuple[Camera, ...] = (Camera("a"), Camera("b", (1, 2)))
    strategy: DDPConfig = field(default_factory=DDPConfig)  # a registered class, not the registry's base
    tiny: VGGTTinyConfig = field(default_factory=VGGTTinyConfig)
    numbers: list[float] = field(default_factory=lambda: [0.5])
    sizes: dict[int, tuple[int, ...]] = field(default_factory=lambda: {1: (2, 3)})
    anything: Any = None
    either: int | str = 3


def test_every_kind_of_type(tmp_path: Path) -> None:
    with pytest.raises(cli.UserError, match=r"^camera\.name: must be set, it has no default$"):
        cli.parse(Everything, [])
    config = cli.parse(Everything, ["--camera.name", "front"])
    assert config == Everything(Camera("front"))
    cli.save(config, tmp_path / "a.yaml")
    assert cli.load(Everything, tmp_path / "a.yaml") == config
    argv = "--camera.name front --colour 2 --mode 3 --spare.name top --spare.size 1,2 --numbers [1,2] --sizes.4 [5]"
    config = cli.parse(Everything, [*argv.split(), "--cameras", "[{name: x, size: [1, 2]}]", "--either", "x"])
    spare, cameras = Camera("top", (1, 2)), (Camera("x", (1, 2)),)
    assert config == Everything(
        Camera("front"), Colour.BLUE, 3, spare, cameras, numbers=[1.0, 2.0], sizes={1: (2, 3), 4: (5,)}, either="x"
    )
    cli.save(config, tmp_path / "b.yaml")
    assert cli.load(Everything, tmp_path / "b.yaml") == config
    assert cli.parse(Everything, ["--spare", "none"], config).spare is None
    assert cli.parse(Everything, ["--tiny.align.epochs", "7"], config).tiny.align.epochs == 7
    with pytest.raises(cli.UserError, match=r"^cameras\[0\]\.siz: no such field, got a list; did you mean 'size'"):
        cli.parse(Everything, ["--cameras", "[{name: x, siz: [1, 2]}]"], config)


def test_a_registered_class_may_name_its_type(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    cli.save(VGGTTinyConfig(pretrained=True), path)
    assert "type: vggt-tiny\n" in path.read_text()
    assert cli.load(ModelConfig, path) == cli.load(VGGTTinyConfig, path) == VGGTTinyConfig(pretrained=True)
    with pytest.raises(cli.UserError, match=r"^type: must be vggt-llama-7b, got 'vggt-tiny' \(.*model.yaml:1\)$"):
        cli.load(VGGTLlama7BConfig, path)


def test_a_class_that_is_not_registered_can_not_be_written() -> None:
    @dataclass(frozen=True)
    class Unregistered(VGGTTinyConfig):
        pass

    with pytest.raises(cli.UserError, match="^model: Unregistered is not a registered choice of ModelConfig$"):
        cli.dump(PretrainConfig(model=Unregistered()))


numbers = st.floats(min_value=1e-12, max_value=1e12)


@given(
    layers=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "seed": st.integers(),
                "learning_rate": numbers,
                "epochs": st.integers(1, 10**6),
                "eps": numbers,
                "hidden_dim": st.integers(1, 4096),
            },
        ),
        min_size=2,
        max_size=2,
    )
)
def test_each_field_has_its_highest_layers_value(layers: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    paths = {
        "seed": "seed",
        "learning_rate": "model.align.learning_rate",
        "epochs": "model.align.epochs",
        "eps": "model.align.optimizer.eps",
        "hidden_dim": "model.action_head.hidden_dim",
    }
    in_file, on_line = ({paths[key]: value for key, value in layer.items()} for layer in layers)
    argv = [f"--{path}={value}" for path, value in on_line.items()]
    config = cli.parse(PretrainConfig, argv, in_file)
    expected = in_file | on_line
    for path in paths.values():
        value, default = config, PretrainConfig()
        for name in path.split("."):
            value, default = getattr(value, name), getattr(default, name)
        assert value == expected.get(path, default)
