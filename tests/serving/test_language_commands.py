"""From training to text, and to another code base: what a run's checkpoint says is what its export says."""

from dataclasses import replace
from pathlib import Path

import pytest
from llava_files import write_llava
from PIL import Image

import vla
from vla.conf.convert import ExportConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, LoaderConfig, PretrainConfig
from vla.conf.stage import Stage
from vla.errors import UserError
from vla.models.weights.prismatic import read_prismatic
from vla.serving.export import export
from vla.training import pretrain


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the align stage of `prism-tiny`."""
    folder = tmp_path_factory.mktemp("run")
    model = PrismTinyConfig()
    stage = replace(model.align, max_steps=2, global_batch_size=4, per_device_batch_size=2)
    config = PretrainConfig(
        model=replace(model, align=stage), dataset=write_llava(folder / "data"), stage=Stage.ALIGN,
        run_root_dir=folder / "runs", device="cpu", trackers=("jsonl",), loader=LoaderConfig(num_workers=0),
        evaluation=EvaluationConfig(every_epochs=None), checkpoint=CheckpointConfig(every_epochs=None), report=False,
    )  # fmt: skip
    assert pretrain.run(config) == 0
    return config.run_dir


def test_a_run_loads_and_its_export_says_the_same(run: Path, tmp_path: Path) -> None:
    trained = vla.load(run)
    prompt = trained.get_prompt_builder()
    prompt.add_turn("human", "Which colour?")
    picture = Image.new("RGB", (24, 20), (200, 30, 40))
    said = trained.generate(picture, prompt, max_new_tokens=8)
    assert export(ExportConfig(checkpoint=run, output=tmp_path)) == 0
    assert (tmp_path / "checkpoints" / "step-000002-epoch-00-loss=inf.pt").is_file()
    assert vla.load(tmp_path, tokenizer="bytes").generate(picture, prompt, max_new_tokens=8) == said


def test_some_groups_are_exported(run: Path, tmp_path: Path) -> None:
    assert export(ExportConfig(checkpoint=run, output=tmp_path, groups=("projector",), precision="bf16")) == 0
    assert list(read_prismatic(tmp_path / "checkpoints" / "latest-checkpoint.pt")) == ["projector"]
    with pytest.raises(UserError, match=r"^groups: must be of vision_backbone, projector, llm_backbone, got 'head'"):
        export(ExportConfig(checkpoint=run, output=tmp_path, groups=("head",)))


def test_a_published_run_is_a_stage_to_begin_with(run: Path, tmp_path: Path) -> None:
    export(ExportConfig(checkpoint=run, output=tmp_path / "align", groups=("projector",)))
    model = PrismTinyConfig()
    stage = replace(model.finetune, max_steps=1, global_batch_size=4, per_device_batch_size=2)
    config = PretrainConfig(
        model=replace(model, finetune=stage), dataset=write_llava(tmp_path / "data"), stage=Stage.FINETUNE,
        pretrained_checkpoint=tmp_path / "align", run_root_dir=tmp_path / "runs", device="cpu", trackers=("jsonl",),
        loader=LoaderConfig(num_workers=0), evaluation=EvaluationConfig(every_epochs=None), report=False,
    )  # fmt: skip
    assert pretrain.run(config) == 0
    assert "weights of projector from" in (config.run_dir / "console.log").read_text()
