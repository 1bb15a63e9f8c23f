"""Published layouts, there and back: what comes back gives the same outputs, to the last bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vla
from vla.commands.convert import PROGRAM
from vla.conf.convert import ExportConfig, ImportConfig
from vla.conf.models import ModelConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.language.processor import LanguageProcessor
from vla.data.vqa.processor import VQAProcessor
from vla.errors import UserError
from vla.models.backbones.vggt import VGGTBackbone, get_vggt_spec
from vla.models.base import BaseModel
from vla.models.materialize import get_model
from vla.models.vggt import VGGT
from vla.models.vlms.nanovlm import NanoVLM
from vla.serving.export import _export_vggt, export
from vla.serving.importing import import_published
from vla.training.example_batch import example_batch
from vla.training.imported import write_imported
from vla.training.inference import load_for_inference


def tiny(name: str) -> ModelConfig:
    return replace(ModelConfig.get_choice_class(name)(), pretrained=False)


def same_weights(one: BaseModel, other: BaseModel) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_nanovlm(tmp_path: Path) -> None:
    config = tiny("nanovlm-tiny")
    model = get_model(config, seed=3)
    write_imported(PretrainConfig(model=config), VQAProcessor.from_config(config), model, tmp_path / "run")
    assert export(ExportConfig(checkpoint=tmp_path / "run", output=tmp_path / "published")) == 0
    files = sorted(path.name for path in (tmp_path / "published").iterdir())
    assert files == ["config.json", "model.safetensors"]
    assert same_weights(NanoVLM.from_pretrained(tmp_path / "published"), model)
    assert import_published(ImportConfig(tmp_path / "published", tmp_path / "again", tokenizer="bytes")) == 0
    run, _, again = load_for_inference(tmp_path / "again")
    assert type(run.model).model_id == "nanovlm-tiny" and run.model.weights is None
    batch = example_batch(config, 1)
    with torch.no_grad():
        assert torch.equal(again(batch, request="logits"), model.eval()(batch, request="logits"))
    with pytest.raises(UserError, match="groups: nanoVLM's layout holds whole models, got projector"):
        export(ExportConfig(checkpoint=tmp_path / "run", output=tmp_path / "out", groups=("projector",)))


def test_prismatic(tmp_path: Path) -> None:
    language = replace(PrismTinyConfig().llm_backbone, tokenizer="bytes")
    config = PrismTinyConfig(pretrained=False, llm_backbone=language)
    model = get_model(config, seed=3)
    write_imported(PretrainConfig(model=config), LanguageProcessor.from_config(config), model, tmp_path / "run")
    assert export(ExportConfig(checkpoint=tmp_path / "run", output=tmp_path / "published")) == 0
    words = ["import", "--input", str(tmp_path / "published"), "--output", str(tmp_path / "again")]
    assert PROGRAM.run([*words, "--tokenizer", "bytes"]) == 0
    first, again = vla.load(tmp_path / "run"), vla.load(tmp_path / "again")
    assert same_weights(again.model, first.model)
    said = [vlm.generate(None, "Which colour is it?", max_new_tokens=8) for vlm in (first, again)]
    assert said[0] == said[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_vggt_of_a_policy(tmp_path: Path, precision: str) -> None:
    config = tiny("vggt-tiny")
    model = get_model(config, seed=3).eval()
    arguments = ExportConfig(checkpoint=tmp_path, output=tmp_path / "vggt", precision=precision)
    path = _export_vggt(arguments, PretrainConfig(model=config), model, tmp_path)
    assert path == tmp_path / "vggt" / "model.safetensors"
    sizes = json.loads((tmp_path / "vggt" / "config.json").read_text())
    assert sizes["embed_dim"] == config.vggt.embed_dim and sizes["enable_track"] is False
    again = VGGTBackbone(config.vggt, config.geometry_encoder, weights=str(tmp_path / "vggt")).eval()
    images = torch.rand(1, 2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here = model.vision_backbone.encode_scene(images, config.geometry_encoder).tokens
        there = again.encode_scene(images, config.geometry_encoder).tokens
    if precision == "fp32":
        assert torch.equal(here, there)
    else:
        torch.testing.assert_close(there, here, rtol=0.05, atol=0.05)
    with pytest.raises(UserError, match="groups: VGGT's layout holds the vision_backbone alone, got fusion"):
        _export_vggt(replace(arguments, groups=("fusion",)), PretrainConfig(model=config), model, tmp_path)


def test_a_vggt_of_all_heads_becomes_safetensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny("vggt-tiny")
    spec = replace(get_vggt_spec(config.vggt, True, True), enable_depth=True, enable_track=True)
    weights = VGGT(spec).state_dict()
    torch.save({f"module.{name}": value for name, value in weights.items()}, tmp_path / "model.pt")
    words = ["import", "--input", str(tmp_path / "model.pt"), "--output", str(tmp_path / "vggt")]
    assert PROGRAM.run(words) == 0
    written = load_file(tmp_path / "vggt" / "model.safetensors")
    assert written.keys() == weights.keys() and all(torch.equal(written[name], weights[name]) for name in weights)
    policy = VGGTBackbone(config.vggt, config.geometry_encoder, weights=str(tmp_path / "vggt"))
    assert all(torch.equal(value, weights[name]) for name, value in policy.state_dict().items())
    weights.popitem()
    torch.save(weights, tmp_path / "model.pt")
    capsys.readouterr()
    assert PROGRAM.run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: input: {tmp_path / 'model.pt'}: weights do not fit") and error.count("\n") == 1


def test_what_has_no_layout_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ("import --output o", "input: must name a published folder, got None"),
        ("import --input nowhere --output o", "input: there is no nowhere"),
        (f"import --input {tmp_path} --output o", f"input: {tmp_path} is no folder of Prismatic's"),
    ):
        assert PROGRAM.run(words.split()) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {message}") and error.count("\n") == 1
