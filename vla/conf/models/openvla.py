"""OpenVLA: a Prismatic model that acts. What the family shares, and the published models.

Values are those of openvla/openvla at commit c8f03f4 (arXiv 2406.09246).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from vla.conf.checks import require, require_choice, require_positive
from vla.conf.models.base import ActionModelConfig, ProcessorConfig
from vla.conf.models.language import CausalLMConfig, Llama2_7BPureConfig, LlamaTinyConfig, Vicuna7BConfig
from vla.conf.models.prismatic.base import LANGUAGE, LAST_LAYER, PROJECTOR, VISION, VLMConfig
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.models.vision_backbones import (
    DINOSigLIPViTSO224Config,
    DINOSigLIPViTTinyConfig,
    SigLIPViTSO224Config,
)
from vla.conf.registry import variant
from vla.conf.stage import ScheduleConfig, Stage, StageConfig
from vla.conf.strategies import DDPConfig, FSDPFullShardConfig


def vla_stage(*trainable: str, **overrides: Any) -> StageConfig:
    """Published training of a VLM into a VLA, for the module groups and parts that train, with `overrides`."""
    values: dict[str, Any] = {
        "epochs": 1000, "global_batch_size": 256, "per_device_batch_size": 32, "learning_rate": 2e-5,
        "weight_decay": 0.0, "max_grad_norm": 1.0, "precision": "bf16", "gradient_checkpointing": True,
        "schedule": ScheduleConfig(name="constant"), "strategy": FSDPFullShardConfig(reduce_dtype="fp32"),
    }  # fmt: skip
    return StageConfig(trainable=trainable, **(values | overrides))


def published_images(**overrides: Any) -> ProcessorConfig:
    """What OpenVLA sees of LIBERO at evaluation, and how its actions are normalised."""
    values: dict[str, Any] = {
        "cameras": ("agentview",), "orientation": "rotate_180", "jpeg_quality": 95, "resize": "lanczos3",
        "center_crop": 0.9, "normalization": "bounds_q99", "normalization_rule": "openvla",
        "max_instruction_tokens": 256,
    }  # fmt: skip
    return ProcessorConfig(**(values | overrides))


@dataclass(frozen=True)
class OpenVLAConfig(ActionModelConfig, VLMConfig):
    """A vision-language model that answers with action tokens.

    Where the published configuration differs: several micro-batches may make a step (there each was one), and actions
    past a trajectory's end are masked.
    """

    system: ClassVar[str] = "OpenVLA"
    target: ClassVar[str] = "vla.models.vlas.openvla:OpenVLA"
    base_vlm: ClassVar[str] = ""  # id of the Prismatic model that training begins with
    data_mix: ClassVar[str] = ""  # what the published model learned from, by its name in Open X-Embodiment mixtures
    published_stage: ClassVar[Stage] = Stage.FULL_FINETUNE  # the stage that the published model was trained by
    expected_world_size: ClassVar[int] = 8  # processes that the published global batch is meant for

    weights: str | None = None  # the whole model: a folder or id in OpenVLA's Hugging Face layout; none: see the parts
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTSO224Config)
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_7BPureConfig)
    arch_specifier: str = "no-align+fused-gelu-mlp"
    processor: ProcessorConfig = field(default_factory=published_images)
    align: StageConfig = field(default_factory=lambda: vla_stage(PROJECTOR))
    finetune: StageConfig = field(default_factory=lambda: vla_stage(PROJECTOR, LANGUAGE))
    full_finetune: StageConfig = field(default_factory=lambda: vla_stage(VISION, PROJECTOR, LANGUAGE))
    num_actions: int = 1  # actions that are predicted at once, one after the other
    action_bins: int = 256  # values that a dimension of an action can take
    action_vocab_size: int | None = None  # ids of which action tokens are the last ones; none: the tokenizer's own
    predict_stop_token: bool = True  # learn the end token after the actions
    gripper_tokens: str = "published"  # published: 1 open, 0 closed | model: -1 open, +1 closed, like all else here

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "num_actions", "action_vocab_size")
        size = self.vision_backbone.image_size
        require(
            "processor.image_size", self.processor.image_size == size, f"must be vision_backbone.image_size ({size})",
            self.processor.image_size,
        )  # fmt: skip
        require_choice(self, "gripper_tokens", ("published", "model"))
        require("action_bins", self.action_bins >= 2, "must be >= 2", self.action_bins)

    @property
    def chunk_size(self) -> int:
        return self.num_actions


@variant()
class OpenVLA7BConfig(OpenVLAConfig):
    """OpenVLA 7B, trained on Open X-Embodiment."""

    model_id: ClassVar[str] = "openvla-7b"
    base_vlm: ClassVar[str] = "prism-dinosiglip-224px+7b"
    data_mix: ClassVar[str] = "oxe_magic_soup_plus_minus"
    expected_world_size: ClassVar[int] = 64

    weights: str | None = "openvla/openvla-7b"


@variant()
class SigLIPBridgeConfig(OpenVLAConfig):
    """SigLIP and Vicuna on BridgeData V2."""

    model_id: ClassVar[str] = "siglip-224px+mx-bridge"
    base_vlm: ClassVar[str] = "siglip-224px+7b"
    data_mix: ClassVar[str] = "bridge"

    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPViTSO224Config)
    llm_backbone: CausalLMConfig = field(default_factory=Vicuna7BConfig)
    arch_specifier: str = "no-align+gelu-mlp"


@variant()
class DINOSigLIPBridgeConfig(OpenVLAConfig):
    """DINOv2, SigLIP and Llama-2 on BridgeData V2."""

    model_id: ClassVar[str] = "prism-dinosiglip-224px+mx-bridge"
    base_vlm: ClassVar[str] = "prism-dinosiglip-224px+7b"
    data_mix: ClassVar[str] = "bridge"


@variant()
class SigLIPFrozenBridgeConfig(SigLIPBridgeConfig):
    """SigLIP, frozen, and Vicuna on BridgeData V2."""

    model_id: ClassVar[str] = "siglip-224px-icy+mx-bridge"
    published_stage: ClassVar[Stage] = Stage.FINETUNE


def _soup_stage(*trainable: str) -> StageConfig:
    return vla_stage(*trainable, global_batch_size=2048)


@variant()
class SigLIPMagicSoupConfig(SigLIPBridgeConfig):
    """SigLIP and Vicuna on a mixture of Open X-Embodiment."""

    model_id: ClassVar[str] = "siglip-224px+mx-oxe-magic-soup"
    data_mix: ClassVar[str] = "oxe_magic_soup"
    expected_world_size: ClassVar[int] = 64

    finetune: StageConfig = field(default_factory=lambda: _soup_stage(PROJECTOR, LANGUAGE))
    full_finetune: StageConfig = field(default_factory=lambda: _soup_stage(VISION, PROJECTOR, LANGUAGE))


@variant()
class DINOSigLIPMagicSoupPlusConfig(DINOSigLIPBridgeConfig):
    """DINOv2, SigLIP and Llama-2 on the mixture that OpenVLA 7B was trained on."""

    model_id: ClassVar[str] = "prism-dinosiglip-224px+mx-oxe-magic-soup-plus"
    data_mix: ClassVar[str] = "oxe_magic_soup_plus_minus"
    expected_world_size: ClassVar[int] = 64

    finetune: StageConfig = field(default_factory=lambda: _soup_stage(PROJECTOR, LANGUAGE))
    full_finetune: StageConfig = field(default_factory=lambda: _soup_stage(VISION, PROJECTOR, LANGUAGE))


@variant()
class SigLIPCarrotConfig(SigLIPBridgeConfig):
    """SigLIP and Vicuna on a carrot that goes into a bowl."""

    model_id: ClassVar[str] = "siglip-224px+mx-tdroid_carrot_in_bowl"
    data_mix: ClassVar[str] = "tdroid_carrot_in_bowl"


@variant()
class SigLIPCornConfig(SigLIPBridgeConfig):
    """SigLIP and Vicuna on corn that is poured into a pot."""

    model_id: ClassVar[str] = "siglip-224px+mx-tdroid_pour_corn_in_pot"
    data_mix: ClassVar[str] = "tdroid_pour_corn_in_pot"


@variant()
class SigLIPFrozenCarrotConfig(SigLIPCarrotConfig):
    """SigLIP, frozen, and Vicuna on a carrot that goes into a bowl."""

    model_id: ClassVar[str] = "siglip-224px-icy+mx-tdroid_carrot_in_bowl"
    published_stage: ClassVar[Stage] = Stage.FINETUNE


@variant()
class SigLIPLastLayerCarrotConfig(SigLIPCarrotConfig):
    """SigLIP and Vicuna on a carrot that goes into a bowl; Vicuna's ends train, and nothing else."""

    model_id: ClassVar[str] = "siglip-224px-last_layer+mx-tdroid_carrot_in_bowl"
    published_stage: ClassVar[Stage] = Stage.FINETUNE

    finetune: StageConfig = field(default_factory=lambda: vla_stage(LAST_LAYER))


@variant()
class SigLIPSandwichCarrotConfig(SigLIPCarrotConfig):
    """SigLIP and Vicuna on a carrot that goes into a bowl; all trains but Vicuna's middle."""

    model_id: ClassVar[str] = "siglip-224px-sandwich+mx-tdroid_carrot_in_bowl"

    full_finetune: StageConfig = field(default_factory=lambda: vla_stage(VISION, PROJECTOR, LAST_LAYER))


@variant()
class SigLIPWipeConfig(SigLIPBridgeConfig):
    """SigLIP and Vicuna on a robot that wipes."""

    model_id: ClassVar[str] = "siglip-224px+mx-droid_wipe"
    data_mix: ClassVar[str] = "droid_wipe"


def tiny_stage(*trainable: str) -> StageConfig:
    """Values for a model that trains in seconds on a CPU."""
    return vla_stage(
        *trainable, epochs=4, global_batch_size=16, per_device_batch_size=16, learning_rate=1e-3, precision="fp32",
        gradient_checkpointing=False, strategy=DDPConfig(),
    )  # fmt: skip


@variant()
class OpenVLATinyConfig(OpenVLAConfig):
    """The same architecture with a few thousand parameters at random, for tests."""

    model_id: ClassVar[str] = "openvla-tiny"

    pretrained: bool = False
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTTinyConfig)
    llm_backbone: CausalLMConfig = field(default_factory=LlamaTinyConfig)
    processor: ProcessorConfig = field(default_factory=lambda: published_images(image_size=28))
    align: StageConfig = field(default_factory=lambda: tiny_stage(PROJECTOR))
    finetune: StageConfig = field(default_factory=lambda: tiny_stage(PROJECTOR, LANGUAGE))
    full_finetune: StageConfig = field(default_factory=lambda: tiny_stage(VISION, PROJECTOR, LANGUAGE))
