"""Members of the family that train on a CPU: one of real pretrained parts, and tiny ones at random for tests."""

from dataclasses import field
from typing import Any, ClassVar

from vla.conf.models.base import LanguageProcessorConfig
from vla.conf.models.language import CausalLMConfig, LlamaTinyConfig, SmolLM2InstructConfig
from vla.conf.models.prismatic.base import (
    PrismaticConfig,
    align_stage,
    finetune_stage,
    full_finetune_stage,
    naive_resize,
)
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.models.vision_backbones import DINOSigLIPViTTinyConfig, EfficientNetLite0Config, SigLIPViTTinyConfig
from vla.conf.registry import variant
from vla.conf.stage import ScheduleConfig, StageConfig
from vla.conf.strategies import DDPConfig

_SMALL: dict[str, Any] = {
    "global_batch_size": 32, "per_device_batch_size": 16, "gradient_checkpointing": False, "precision": "fp32",
    "schedule": ScheduleConfig(name="cosine", warmup_ratio=0.03),
    "strategy": DDPConfig(),
}  # fmt: skip
_TINY: dict[str, Any] = _SMALL | {"global_batch_size": 8, "per_device_batch_size": 4, "epochs": 2}


def _align(values: dict[str, Any], **overrides: Any) -> StageConfig:
    return align_stage(**(values | overrides))


def _finetune(values: dict[str, Any], **overrides: Any) -> StageConfig:
    return finetune_stage(**(values | overrides))


def _full_finetune(values: dict[str, Any], **overrides: Any) -> StageConfig:
    return full_finetune_stage(**(values | overrides))


@variant()
class EfficientNetSmolLMVLM135MConfig(PrismaticConfig):
    """EfficientNet-Lite0 and SmolLM2-135M-Instruct: real pretrained parts, small enough for a CPU."""

    model_id: ClassVar[str] = "efficientnet-smollm-vlm-135m"

    vision_backbone: VisionBackboneConfig = field(default_factory=EfficientNetLite0Config)
    llm_backbone: CausalLMConfig = field(default_factory=SmolLM2InstructConfig)
    processor: LanguageProcessorConfig = field(default_factory=naive_resize)
    align: StageConfig = field(default_factory=lambda: _align(_SMALL))
    finetune: StageConfig = field(default_factory=lambda: _finetune(_SMALL, learning_rate=1e-4))
    full_finetune: StageConfig = field(default_factory=lambda: _full_finetune(_SMALL, learning_rate=1e-4))
    feature_precision: str = "fp16"


@variant()
class PrismTinyConfig(PrismaticConfig):
    """SigLIP and Llama with a few thousand parameters at random, for tests."""

    model_id: ClassVar[str] = "prism-tiny"

    pretrained: bool = False
    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPViTTinyConfig)
    llm_backbone: CausalLMConfig = field(default_factory=LlamaTinyConfig)
    processor: LanguageProcessorConfig = field(default_factory=lambda: LanguageProcessorConfig(max_length=256))
    align: StageConfig = field(default_factory=lambda: _align(_TINY))
    finetune: StageConfig = field(default_factory=lambda: _finetune(_TINY, learning_rate=1e-3))
    full_finetune: StageConfig = field(default_factory=lambda: _full_finetune(_TINY, learning_rate=1e-3))


@variant()
class PrismDINOSigLIPTinyConfig(PrismTinyConfig):
    """DINOv2, SigLIP and Llama with a few thousand parameters at random, for tests."""

    model_id: ClassVar[str] = "prism-dinosiglip-tiny"

    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTTinyConfig)
    arch_specifier: str = "fused-gelu-mlp"
