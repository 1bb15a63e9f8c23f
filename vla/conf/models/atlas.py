"""AtlasVLA: VGGT + language model + geometry encoder + fusion + action head, and its registered sizes."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from vla.conf.checks import require
from vla.conf.models.base import ModelConfig, ProcessorConfig
from vla.conf.models.components import (
    ActionHeadConfig,
    FusionConfig,
    GeometryEncoderConfig,
    LLMConfig,
    PoseGripperHeadConfig,
    VGGTConfig,
)
from vla.conf.stage import ScheduleConfig, StageConfig

NEW_MODULES = ("geometry_encoder", "fusion", "action_head")
LLAMA2_7B = LLMConfig(weights="meta-llama/Llama-2-7b-hf")
SMOLLM2_135M = LLMConfig(
    weights="HuggingFaceTB/SmolLM2-135M", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=30,
    num_heads=9, num_kv_heads=3, max_position=8192, rope_theta=100000.0, tie_embeddings=True,
)  # fmt: skip


def _stage(trainable: tuple[str, ...], **overrides: object) -> StageConfig:
    """Published training values (50 epochs, 32 samples a step, 1e-4, 1,000 warm-up steps, clip 1) with `overrides`."""
    values: dict[str, Any] = {
        "epochs": 50, "global_batch_size": 32, "per_device_batch_size": 4, "learning_rate": 1e-4, "weight_decay": 0.01,
        "schedule": ScheduleConfig(name="cosine", warmup_steps=1000),
    }  # fmt: skip
    return StageConfig(trainable=trainable, **(values | overrides))


@dataclass(frozen=True)
class AtlasVLAConfig(ModelConfig):
    """AtlasVLA with the published sizes."""

    system: ClassVar[str] = "AtlasVLA"
    task: ClassVar[str] = "action"
    target: ClassVar[str] = "vla.models.vlas.atlas:AtlasVLA"
    module_groups: ClassVar[tuple[str, ...]] = ("vision_backbone", "llm_backbone", *NEW_MODULES)

    processor: ProcessorConfig = field(
        default_factory=lambda: ProcessorConfig(image_size=518, num_frames=2, frame_stride=2)
    )
    vggt: VGGTConfig = field(default_factory=VGGTConfig)
    llm: LLMConfig = field(default_factory=lambda: LLAMA2_7B)
    geometry_encoder: GeometryEncoderConfig = field(default_factory=GeometryEncoderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    action_head: ActionHeadConfig = field(default_factory=PoseGripperHeadConfig)
    align: StageConfig = field(default_factory=lambda: _stage(NEW_MODULES))
    finetune: StageConfig = field(
        default_factory=lambda: _stage(("llm_backbone", *NEW_MODULES), lr_multipliers={"llm_backbone": 0.1})
    )
    full_finetune: StageConfig = field(
        default_factory=lambda: _stage(
            ("vision_backbone", "llm_backbone", *NEW_MODULES),
            lr_multipliers={"vision_backbone": 0.1, "llm_backbone": 0.1},
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        size, patch = self.processor.image_size, self.vggt.patch_size
        require("processor.image_size", size % patch == 0, f"must be a multiple of vggt.patch_size ({patch})", size)
        layers, depth = self.geometry_encoder.layers, self.vggt.depth
        require("geometry_encoder.layers", all(0 <= i < depth for i in layers), f"must be in [0, {depth})", layers)

    @property
    def chunk_size(self) -> int:
        return self.action_head.chunk_size


@dataclass(frozen=True)
class VGGTLlama7BConfig(AtlasVLAConfig):
    """VGGT-1B and LLaMA-2-7B."""

    model_id: ClassVar[str] = "vggt-llama-7b"


@dataclass(frozen=True)
class VGGTSmolLM135MConfig(AtlasVLAConfig):
    """VGGT-1B and SmolLM2-135M."""

    model_id: ClassVar[str] = "vggt-smollm-135m"

    llm: LLMConfig = field(default_factory=lambda: SMOLLM2_135M)


def _tiny_stage(trainable: tuple[str, ...]) -> StageConfig:
    return _stage(
        trainable, epochs=4, global_batch_size=16, per_device_batch_size=16, learning_rate=1e-3, precision="fp32",
        schedule=ScheduleConfig(name="cosine", warmup_ratio=0.05),
    )  # fmt: skip


@dataclass(frozen=True)
class VGGTTinyConfig(AtlasVLAConfig):
    """The same architecture small enough to train on a CPU; its backbones start at random."""

    model_id: ClassVar[str] = "vggt-tiny"

    pretrained: bool = False
    processor: ProcessorConfig = field(
        default_factory=lambda: ProcessorConfig(image_size=112, proprio=True, max_instruction_tokens=128)
    )
    vggt: VGGTConfig = field(
        default_factory=lambda: VGGTConfig(
            weights=None, img_size=112, embed_dim=64, depth=2, num_heads=4, mlp_ratio=2.0, patch_embed="conv"
        )
    )
    llm: LLMConfig = field(
        default_factory=lambda: LLMConfig(
            vocab_size=384,
            hidden_size=64,
            intermediate_size=128,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            max_position=512,
            tie_embeddings=True,
            tokenizer="bytes",
        )  # fmt: skip
    )
    geometry_encoder: GeometryEncoderConfig = field(
        default_factory=lambda: GeometryEncoderConfig(layers=(0, 1), dim=64, pool_size=4)
    )
    fusion: FusionConfig = field(default_factory=lambda: FusionConfig(dim=64, num_layers=2, num_heads=4, num_queries=8))
    action_head: ActionHeadConfig = field(default_factory=lambda: PoseGripperHeadConfig(hidden_dim=64))
    align: StageConfig = field(default_factory=lambda: _tiny_stage(NEW_MODULES))
    finetune: StageConfig = field(default_factory=lambda: _tiny_stage(("llm_backbone", *NEW_MODULES)))
    full_finetune: StageConfig = field(
        default_factory=lambda: _tiny_stage(("vision_backbone", "llm_backbone", *NEW_MODULES))
    )
