"""Tensors of whole published models, and which of them each published stage trains. Shapes only."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vla.conf.models import ModelConfig
from vla.conf.models.prismatic import LAST_LAYER
from vla.conf.models.prismatic.small import PrismDINOSigLIPTinyConfig
from vla.conf.stage import StageConfig
from vla.errors import UserError
from vla.models.freezing import apply_stage, format_table
from vla.models.materialize import get_model
from vla.models.vlms.prismatic import PrismaticVLM

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
STATE_DICTS = json.loads((GOLDEN / "openvla" / "openvla_state_dict.json").read_text())
NATIVE = {
    "prism-dinosiglip-224px+7b": STATE_DICTS["native_checkpoint_prism-dinosiglip-224px+7b"],
    "siglip-224px+7b": STATE_DICTS["native_siglip-224px+7b_non_llm"],
}
FREEZE = json.loads((GOLDEN / "prismatic" / "projectors_and_freezing.json").read_text())["freeze"]
GROUPS = ("vision_backbone", "projector", "llm_backbone")
TRAINABLE = {
    "align": ("projector",),
    "finetune": ("projector", "llm_backbone"),
    "vla-train": ("projector", "llm_backbone"),
    "full-finetune": GROUPS,
    "vla-full-train": GROUPS,
    "last-layer-finetune": (LAST_LAYER,),
    "vla-last-layer-train": (LAST_LAYER,),
    "vla-sandwich-train": ("vision_backbone", "projector", LAST_LAYER),
}


@pytest.mark.parametrize("model_id", NATIVE)
def test_tensors_of_published_checkpoints(model_id: str) -> None:
    model = get_model(ModelConfig.get_choice_class(model_id)(), device="meta")
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    for group, tensors in NATIVE[model_id].items():
        published = {f"{group}.{name}": shape for name, shape in tensors.items()}
        assert {name: shape for name, shape in ours.items() if name.startswith(f"{group}.")} == published


def test_number_of_parameters() -> None:
    model = get_model(ModelConfig.get_choice_class("prism-dinosiglip-224px+7b")(), device="meta")
    counts = {name: sum(p.numel() for p in group.parameters()) for name, group in model.module_groups().items()}
    assert sum(counts.values()) == STATE_DICTS["counts"]["native_total"]
    assert counts["vision_backbone"] == STATE_DICTS["counts"]["dino"] + STATE_DICTS["counts"]["siglip"]


@pytest.mark.parametrize("stage", FREEZE)
def test_published_stages_train_the_published_tensors(stage: str) -> None:
    model = PrismaticVLM(PrismDINOSigLIPTinyConfig())
    apply_stage(model, StageConfig(trainable=TRAINABLE[stage]))
    theirs, unused = FREEZE[stage], model.unused_parameters()
    named = dict(model.named_parameters())
    for group, (trained, total) in theirs["modules"].items():
        own = {name: parameter for name, parameter in named.items() if name.startswith(f"{group}.")}
        assert len(own) == total
        # Published stages also "train" what no forward pass uses, which changes nothing.
        assert sum(p.requires_grad for p in own.values()) == trained - (sum(n in unused for n in own) if trained else 0)
    if theirs["llm_trainable"] not in ("all", []):
        trains = {name for name, p in named.items() if p.requires_grad and name.startswith("llm_backbone.")}
        assert trains == set(theirs["llm_trainable"])


def test_a_group_that_trains_in_part_is_not_frozen() -> None:
    model = PrismaticVLM(PrismDINOSigLIPTinyConfig())
    rows = apply_stage(model, StageConfig(trainable=("projector", LAST_LAYER)))
    assert model.frozen_groups == {"vision_backbone"}
    model.train()
    assert [module.training for module in model.module_groups().values()] == [False, True, True]
    assert "trains in part" in format_table(rows)
    with pytest.raises(UserError, match=r"must be of vision_backbone, .*llm_backbone\.last_layer, got 'llm.first'"):
        apply_stage(model, StageConfig(trainable=("llm.first",)))


def test_tied_tables_are_one_part() -> None:
    config = PrismDINOSigLIPTinyConfig()
    model = PrismaticVLM(replace(config, llm_backbone=replace(config.llm_backbone, tie_embeddings=True)))
    names = model.module_parts()[LAST_LAYER]
    assert "llm_backbone.llm.model.embed_tokens.weight" in names and not any("lm_head" in name for name in names)
    assert names <= {name for name, _ in model.named_parameters()}


def test_every_published_model_builds_on_meta() -> None:
    vocabularies = {"phi-2+3b": 50304, "llama2+13b": 32064, "mistral-instruct-v0.1+7b": 32064}
    for model_id, rows in vocabularies.items():
        model = get_model(ModelConfig.get_choice_class(model_id)(), device="meta")
        llm = model.llm_backbone
        assert llm.vocab_size == rows == len(llm.llm.get_input_embeddings().weight) == len(llm.llm.lm_head.weight)
