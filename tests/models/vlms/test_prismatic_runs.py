"""Run folders as Prismatic writes them: read, written, and refused where they don't fit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vla.batches import LanguageBatch
from vla.conf.models import ModelConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.errors import UserError
from vla.models.vlms.prismatic import PrismaticVLM
from vla.models.weights.prismatic import (
    build_prismatic,
    find_prismatic_run,
    is_prismatic_run,
    load_prismatic,
    read_prismatic,
    to_published,
    write_prismatic,
)
from vla.models.weights_source import WeightsNotFound

GROUPS = ["vision_backbone", "projector", "llm_backbone"]


@pytest.fixture
def run(golden_model: PrismaticVLM, tmp_path: Path) -> Path:
    write_prismatic(golden_model, tmp_path / "run", stage="finetune", step=12, epoch=1, loss=0.25)
    return tmp_path / "run"


def change(run: Path, **values: Any) -> None:
    """Change the run's `config.json`."""
    config = json.loads((run / "config.json").read_text())
    config["model"] |= values
    (run / "config.json").write_text(json.dumps(config))


def change_tensors(run: Path, function: Any) -> None:
    """Change what the run's checkpoint holds."""
    path = run / "checkpoints" / "latest-checkpoint.pt"
    content = torch.load(path, weights_only=True)
    function(content["model"])
    torch.save(content, path)


def test_layout(run: Path, golden_model: PrismaticVLM) -> None:
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["latest-checkpoint.pt", "step-000012-epoch-01-loss=0.2500.pt"]
    content = torch.load(run / "checkpoints" / names[0], weights_only=True)
    assert list(content) == ["model"] and list(content["model"]) == GROUPS
    assert set(content["model"]["projector"]) == {
        f"projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
    assert "llm.model.embed_tokens.weight" in content["model"]["llm_backbone"]
    assert "featurizer.pos_embed" in content["model"]["vision_backbone"]
    assert json.loads((run / "config.json").read_text()) == {
        "model": to_published(golden_model.config),
        "stage": "finetune",
    }


def test_round_trip(run: Path, golden_model: PrismaticVLM, golden_batch: LanguageBatch) -> None:
    assert is_prismatic_run(run) and is_prismatic_run(run / "checkpoints" / "latest-checkpoint.pt")
    for path in (run, run / "checkpoints" / "step-000012-epoch-01-loss=0.2500.pt"):
        built = build_prismatic(find_prismatic_run(path))
        assert not built.training and not any(tensor.is_meta for tensor in built.state_dict().values())
        assert torch.equal(built(golden_batch).token_loss, golden_model(golden_batch).token_loss)
    half = build_prismatic(find_prismatic_run(run), torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_the_newest_step_counts_where_there_is_no_latest(run: Path) -> None:
    folder = run / "checkpoints"
    (folder / "latest-checkpoint.pt").rename(folder / "step-000002-epoch-00-loss=inf.pt")
    assert find_prismatic_run(run).checkpoint.name == "step-000012-epoch-01-loss=0.2500.pt"


def test_training_can_begin_with_the_groups_that_it_holds(golden_model: PrismaticVLM, tmp_path: Path) -> None:
    checkpoint = write_prismatic(golden_model, tmp_path, stage="align", groups=["projector"])
    model = PrismaticVLM(PrismTinyConfig())
    before = model.llm_backbone.llm.lm_head.weight.clone()
    assert load_prismatic(model, checkpoint) == ["projector"]
    assert torch.equal(model.projector.projector[0].weight, golden_model.projector.projector[0].weight)
    assert torch.equal(model.llm_backbone.llm.lm_head.weight, before)


def test_a_missing_vision_backbone_is_reported_not_ignored(
    golden_model: PrismaticVLM, golden_batch: LanguageBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_prismatic(golden_model, tmp_path, stage="finetune", groups=["projector", "llm_backbone"])
    run = find_prismatic_run(tmp_path)
    with pytest.raises(WeightsNotFound) as caught:
        build_prismatic(run)
    assert str(caught.value) == (
        f"{run.checkpoint}: holds no weights of vision_backbone, and model.vision_backbone.weights.siglip: "
        "'timm/vit_so400m_patch14_siglip_224.webli' is neither a local folder nor in the Hugging Face cache, and "
        "HF_HUB_OFFLINE forbids asking the hub; pass vision_weights={tower: file}"
    )
    tower = golden_model.vision_backbone.featurizer.state_dict()
    save_file(tower, tmp_path / "siglip.safetensors")
    vision = replace(run.config.vision_backbone, weights={"siglip": str(tmp_path / "siglip.safetensors")})
    built = build_prismatic(replace(run, config=replace(run.config, vision_backbone=vision)))
    assert torch.equal(built(golden_batch).token_loss, golden_model(golden_batch).token_loss)


def test_the_configuration_beside_the_weights_decides(run: Path) -> None:
    change(run, model_id="prism-siglip+13b", vision_backbone_id="clip-vit-l-336px", llm_max_length=64)
    config = find_prismatic_run(run).config
    assert isinstance(config, ModelConfig.get_choice_class("prism-siglip+13b"))
    assert type(config.vision_backbone).backbone_id == "clip-vit-l-336px" and config.processor.max_length == 64
    with pytest.raises(UserError, match=r"vision_backbone does not fit the model: 0 tensors loaded; \d+ missing"):
        build_prismatic(find_prismatic_run(run))
    change(run, model_id="somebodys-own", vision_backbone_id="siglip-vit-tiny")
    assert build_prismatic(find_prismatic_run(run)).config.projector_type == "gelu-mlp"


def test_constants_of_older_versions_are_no_misfit(run: Path) -> None:
    name = "llm.model.layers.0.self_attn.rotary_emb.inv_freq"
    change_tensors(run, lambda groups: groups["llm_backbone"].update({name: torch.zeros(6)}))
    assert name not in read_prismatic(find_prismatic_run(run).checkpoint)["llm_backbone"]
    build_prismatic(find_prismatic_run(run))


def test_bad_runs(run: Path, tmp_path: Path) -> None:
    assert not is_prismatic_run(tmp_path) and not is_prismatic_run(tmp_path / "none.pt")
    checkpoint = run / "checkpoints" / "latest-checkpoint.pt"
    change_tensors(run, lambda groups: groups["projector"].pop("projector.0.bias"))
    with pytest.raises(UserError, match=r"projector does not fit the model: 3 .*; 1 missing \(projector\.0\.bias\)$"):
        build_prismatic(find_prismatic_run(run))
    change_tensors(run, lambda groups: groups.pop("llm_backbone"))
    with pytest.raises(UserError, match="holds no weights of llm_backbone, only of vision_backbone, projector"):
        build_prismatic(find_prismatic_run(run))
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match="can't be read as a Prismatic checkpoint"):
        read_prismatic(checkpoint)
    change(run, llm_backbone_id="llama3-8b")
    with pytest.raises(UserError, match=r"config\.json: model\.llm_backbone_id: must be one of .*, got 'llama3-8b'"):
        find_prismatic_run(run)
    (run / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json: not the configuration of a Prismatic run \(KeyError"):
        find_prismatic_run(run)


class _Evil:
    def __reduce__(self) -> tuple:
        return (print, ("executed",))


def test_nothing_in_a_checkpoint_is_executed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "checkpoints" / "latest-checkpoint.pt"
    torch.save({"model": {"projector": {"x": _Evil()}}}, path)
    with pytest.raises(UserError, match="can't be read"):
        read_prismatic(path)
    assert capsys.readouterr().out == ""
