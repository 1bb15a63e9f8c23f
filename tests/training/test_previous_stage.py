"""Where the weights of a stage come from that builds on another one."""

from dataclasses import replace
from pathlib import Path

import pytest
from language_toys import ToyLanguageDataConfig

from vla.conf import cli
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.stage import Stage
from vla.errors import UserError
from vla.training.checkpoint_files import CheckpointWriter
from vla.training.checkpoint_store import CheckpointStore
from vla.training.previous_stage import start_from_previous_stage


def make_run(folder: Path, config: PretrainConfig | None = None) -> Path:
    """A run folder whose only checkpoint holds nothing but what is looked at here."""
    with CheckpointWriter(CheckpointStore(folder).path(3)) as writer:
        if config is not None:
            writer.data("config.yaml", cli.dump(config).encode())
        writer.commit({"groups": []})
    return folder


def run_config(root: Path, stage: Stage = Stage.FINETUNE, arch_specifier: str = "gelu-mlp") -> PretrainConfig:
    model = PrismTinyConfig(arch_specifier=arch_specifier)
    return PretrainConfig(model=model, dataset=ToyLanguageDataConfig(), stage=stage, run_root_dir=root, seed=5)


def start(config: PretrainConfig, resume_from: Path | None = None) -> Path | None:
    return start_from_previous_stage(config, resume_from).pretrained_checkpoint


@pytest.mark.parametrize("stage", [Stage.FINETUNE, Stage.FULL_FINETUNE])
def test_the_align_run_of_the_same_model_data_and_seed(tmp_path, capsys, stage):
    for other in ("other+align+x5", "toy-language+align+x6", "toy-language+finetune+x5"):
        make_run(tmp_path / f"prism-tiny+{other}")
    expected = make_run(run_config(tmp_path, Stage.ALIGN).run_dir)
    assert start(run_config(tmp_path, stage)) == expected == tmp_path / "prism-tiny+toy-language+align+x5"
    assert f"stage {stage.value} begins with the weights of {expected}" in "".join(capsys.readouterr())


def test_the_only_align_run_on_other_data(tmp_path):
    expected = make_run(tmp_path / "prism-tiny+other+align+x5")
    assert start(run_config(tmp_path)) == expected
    make_run(tmp_path / "prism-tiny+third+align+x5")
    with pytest.raises(UserError, match="holds prism-tiny.other.align.x5, prism-tiny.third.align.x5; train that first"):
        start(run_config(tmp_path))


def test_a_run_folder_as_published(tmp_path):
    weights = tmp_path / "prism-tiny+stage-align+x5" / "checkpoints" / "latest-checkpoint.pt"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert start(run_config(tmp_path)) == weights.parents[1]
    ours = make_run(run_config(tmp_path, Stage.ALIGN).run_dir)
    assert start(run_config(tmp_path)) == ours


def test_none_is_one_line_that_says_what_to_pass(tmp_path):
    (tmp_path / "prism-tiny+toy-language+align+x5" / "checkpoints" / "step-000003").mkdir(parents=True)  # incomplete
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"--stage align\) or pass --pretrained_checkpoint") as raised:
            start(run_config(root))
        assert str(raised.value).startswith("pretrained_checkpoint: ") and "\n" not in str(raised.value)
        assert str(root / "prism-tiny+toy-language+align+x5") in str(raised.value)


def test_what_begins_with_published_weights_or_is_named_is_left_alone(tmp_path):
    make_run(run_config(tmp_path, Stage.ALIGN).run_dir)
    assert start(run_config(tmp_path, Stage.ALIGN)) is None
    assert start(run_config(tmp_path, arch_specifier="no-align+gelu-mlp")) is None
    named = replace(run_config(tmp_path), pretrained_checkpoint=tmp_path / "mine")
    assert start_from_previous_stage(named) == named


def test_a_resumed_run_keeps_what_it_began_with(tmp_path):
    begun = replace(run_config(tmp_path), pretrained_checkpoint=tmp_path / "long" / "gone")
    checkpoint = CheckpointStore(make_run(begun.run_dir, begun)).path(3)
    assert start(run_config(tmp_path), checkpoint) == tmp_path / "long" / "gone"
