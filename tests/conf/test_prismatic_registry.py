"""The published tables of models and backbones, entry by entry."""

import json
from pathlib import Path
from typing import Any

import pytest

from vla.conf.models import ModelConfig, ModelRegistry, PrismaticConfig
from vla.conf.models.language import LLMRegistry
from vla.conf.models.vision_backbones import VisionBackboneRegistry
from vla.conf.stage import Stage, StageConfig

PUBLISHED = json.loads((Path(__file__).resolve().parents[1] / "golden" / "prismatic" / "registry.json").read_text())
MODELS: dict[str, dict[str, Any]] = PUBLISHED["models"]
# The published class of this one inherits from CLIP's by a slip; its name and its released description say SigLIP.
SLIPS = {"prism-siglip+13b": {"vision_backbone_id": "siglip-vit-so400m-384px"}}
PROMPTS = {
    "PurePromptBuilder": "pure", "LLaMa2ChatPromptBuilder": "llama2-chat", "VicunaV15ChatPromptBuilder": "vicuna",
    "MistralInstructPromptBuilder": "mistral-instruct", "PhiPromptBuilder": "phi",
}  # fmt: skip


def stage_values(prefix: str, stage: StageConfig) -> dict[str, Any]:
    """A stage's hyper-parameters under their published names."""
    schedule = stage.schedule
    assert (schedule.name, schedule.warmup_steps, schedule.min_lr_ratio) == ("cosine", None, 0.0)
    return {
        f"{prefix}_epochs": stage.epochs,
        f"{prefix}_max_steps": stage.max_steps,
        f"{prefix}_global_batch_size": stage.global_batch_size,
        f"{prefix}_per_device_batch_size": stage.per_device_batch_size,
        f"{prefix}_learning_rate": stage.learning_rate,
        f"{prefix}_weight_decay": stage.weight_decay,
        f"{prefix}_max_grad_norm": stage.max_grad_norm,
        f"{prefix}_lr_scheduler_type": "linear-warmup+cosine-decay",
        f"{prefix}_warmup_ratio": schedule.warmup_ratio,
        f"{prefix}_train_strategy": type(stage.strategy).strategy_id,
    }


def published_form(config: PrismaticConfig, finetune: Stage) -> dict[str, Any]:
    """A configuration under the published names; one set of values served finetune and full-finetune."""
    stages = [config.align, config.stage(finetune)]
    return {
        "arch_specifier": config.arch_specifier,
        "vision_backbone_id": type(config.vision_backbone).backbone_id,
        "llm_backbone_id": type(config.llm_backbone).llm_id,
        "image_resize_strategy": config.processor.image_resize_strategy,
        "llm_max_length": config.processor.max_length,
        "enable_gradient_checkpointing": all(stage.gradient_checkpointing for stage in stages),
        "enable_mixed_precision_training": all(stage.precision == "bf16" for stage in stages),
        "reduce_in_full_precision": any(stage.strategy.reduce_dtype != "bf16" for stage in stages),  # type: ignore[attr-defined]
        **stage_values("align", config.align),
        **stage_values("finetune", config.stage(finetune)),
    }


@pytest.mark.parametrize("finetune", [Stage.FINETUNE, Stage.FULL_FINETUNE])
@pytest.mark.parametrize("model_id", MODELS)
def test_model(model_id: str, finetune: Stage) -> None:
    config = ModelConfig.get_choice_class(model_id)()
    assert published_form(config, finetune) == PUBLISHED["base"] | MODELS[model_id] | SLIPS.get(model_id, {})


def test_all_are_there() -> None:
    ids = [member.model_id for member in ModelRegistry]
    assert len(MODELS) == 50 and set(MODELS) <= set(ids)


def test_stages_train_what_was_published() -> None:
    config = ModelConfig.get_choice_class("prism-dinosiglip+7b")()
    assert config.align.trainable == ("projector",)
    assert config.finetune.trainable == ("projector", "llm_backbone")
    assert config.full_finetune.trainable == ("vision_backbone", "projector", "llm_backbone")


@pytest.mark.parametrize("backbone_id", PUBLISHED["vision_backbones"])
def test_vision_backbone(backbone_id: str) -> None:
    theirs = PUBLISHED["vision_backbones"][backbone_id]
    (config,) = [member.value() for member in VisionBackboneRegistry if member.backbone_id == backbone_id]
    assert config.image_size == theirs["default_image_size"]
    assert (config.embed_dim, config.num_patches) == (theirs["embed_dim"], theirs["num_patches"])
    assert [config.towers[0].quick_gelu, config.towers[-1].quick_gelu] == [theirs["act_layer_override"] is not None] * 2
    assert len(config.towers) == len(theirs["towers"])
    for tower, (name, facts) in zip(config.towers, theirs["towers"].items(), strict=True):
        assert len(config.towers) == 1 or tower.name == name
        assert tower.timm_id.removesuffix(".webli") == facts["timm_id"]
        assert (tower.embed_dim, tower.depth, tower.patch_size) == (
            facts["embed_dim"], facts["depth"], facts["patch_size"],
        )  # fmt: skip
        assert tower.num_prefix_tokens == facts["num_prefix_tokens"]
        transform = config.transforms[tower.name]
        assert (transform.size, [*transform.mean], [*transform.std]) == (
            config.image_size, facts["mean"], facts["std"],
        )  # fmt: skip


@pytest.mark.parametrize("llm_id", PUBLISHED["llm_backbones"])
def test_llm(llm_id: str) -> None:
    theirs = PUBLISHED["llm_backbones"][llm_id]
    (config,) = [member.value() for member in LLMRegistry if member.llm_id == llm_id]
    assert (config.family, config.weights) == (theirs["family"], theirs["hf_hub_path"])
    assert config.prompt == PROMPTS[theirs["prompt_builder"]]
    assert (config.pad_token, config.pad_to_multiple_of) == (
        theirs["added_pad_token"], theirs["resize_pad_to_multiple_of"],
    )  # fmt: skip
    assert config.padded_vocab_size == (50304 if llm_id == "phi-2-3b" else 32064)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="arch_specifier: must be one of linear, .*, got 'no-align\\+mlp'"):
        PrismaticConfig(arch_specifier="no-align+mlp")
    with pytest.raises(ValueError, match="weights: must name towers of dino, siglip, got 'clip'"):
        VisionBackboneRegistry.DINOSIGLIP_VIT_SO_224PX.value(weights={"clip": "x"})
    with pytest.raises(ValueError, match="image_resize_strategy: must be one of letterbox, resize-crop, resize-naive"):
        type(PrismaticConfig().processor)(image_resize_strategy="stretch")
