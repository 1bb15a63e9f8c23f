"""AtlasVLA: vision backbone + language model + geometry encoder + fusion + action head, and its registered sizes."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from vla.conf.checks import require, require_choice
from vla.conf.models.base import ActionModelConfig, ProcessorConfig
from vla.conf.models.components import (
    ActionHeadConfig,
    ChunkHeadConfig,
    EfficientNetConfig,
    FusionConfig,
    GeometryEncoderConfig,
    LLMConfig,
    PoseGripperHeadConfig,
    VGGTConfig,
)
from vla.conf.models.lora import LoRAConfig
from vla.conf.stage import ScheduleConfig, StageConfig

NEW_MODULES = ("geometry_encoder", "fusion", "action_head")
LLAMA2_7B = LLMConfig(weights="meta-llama/Llama-2-7b-hf")
SMOLLM2_135M = LLMConfig(
    weights="HuggingFaceTB/SmolLM2-135M", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=30,
    num_heads=9, num_kv_heads=3, max_position=8192, rope_theta=100000.0, tie_embeddings=True,
)  # fmt: skip

TINY_LLM = LLMConfig(
    vocab_size=384, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=2, max_position=512,
    tie_embeddings=True, tokenizer="bytes",
)  # fmt: skip


def _stage(trainable: tuple[str, ...], **overrides: object) -> StageConfig:
    """Published training values (50 epochs, 32 samples a step, 1e-4, 1,000 warm-up steps, clip 1) with `overrides`."""
    values: dict[str, Any] = {
        "epochs": 50, "global_batch_size": 32, "per_device_batch_size": 4, "learning_rate": 1e-4, "weight_decay": 0.01,
        "schedule": ScheduleConfig(name="cosine", warmup_steps=1000),
    }  # fmt: skip
    return StageConfig(trainable=trainable, **(values | overrides))


@dataclass(frozen=True)
class AtlasConfig(ActionModelConfig):
    """What the AtlasVLA family shares, whatever its vision backbone is."""

    system: ClassVar[str] = "AtlasVLA"
    target: ClassVar[str] = "vla.models.vlas.atlas:AtlasVLA"
    module_groups: ClassVar[tuple[str, ...]] = ("vision_backbone", "llm_backbone", *NEW_MODULES)
    vision_field: ClassVar[str] = ""  # the field that configures the vision backbone

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

    feature_precision: str = "fp32"  # fp32 | fp16: in which a frozen vision backbone's features are given and kept
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        size, patch = self.processor.image_size, self.vision.patch_size
        name = f"{self.vision_field}.patch_size"
        require("processor.image_size", size % patch == 0, f"must be a multiple of {name} ({patch})", size)
        require_choice(self, "feature_precision", ("fp32", "fp16"))

    @property
    def vision(self) -> Any:
        """The vision backbone's configuration: its `patch_size` in pixels, and `weights`."""
        return getattr(self, self.vision_field)

    @property
    def chunk_size(self) -> int:
        return self.action_head.chunk_size


@dataclass(frozen=True)
class AtlasVLAConfig(AtlasConfig):
    """AtlasVLA with the published sizes."""

    vision_field: ClassVar[str] = "vggt"

    processor: ProcessorConfig = field(
        default_factory=lambda: ProcessorConfig(image_size=518, num_frames=2, frame_stride=2)
    )
    vggt: VGGTConfig = field(default_factory=VGGTConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        layers, depth = self.geometry_encoder.layers, self.vggt.depth
        require("geometry_encoder.layers", all(0 <= i < depth for i in layers), f"must be in [0, {depth})", layers)


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
    llm: LLMConfig = field(default_factory=lambda: TINY_LLM)
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


def _small_stage(trainable: tuple[str, ...]) -> StageConfig:
    return _stage(
        trainable, epochs=12, global_batch_size=64, per_device_batch_size=32, learning_rate=1e-3, weight_decay=0.05,
        schedule=ScheduleConfig(name="cosine", warmup_steps=200),
    )  # fmt: skip


@dataclass(frozen=True)
class EfficientNetSmolLM135MConfig(AtlasConfig):
    """EfficientNet-Lite0 and SmolLM2-135M: real pretrained parts, small enough for a CPU."""

    model_id: ClassVar[str] = "efficientnet-smollm-135m"
    vision_field: ClassVar[str] = "efficientnet"

    processor: ProcessorConfig = field(default_factory=lambda: ProcessorConfig(image_size=160, proprio=True))
    efficientnet: EfficientNetConfig = field(default_factory=EfficientNetConfig)
    llm: LLMConfig = field(default_factory=lambda: SMOLLM2_135M)
    geometry_encoder: GeometryEncoderConfig = field(
        default_factory=lambda: GeometryEncoderConfig(dim=192, use_pose=False)
    )
    fusion: FusionConfig = field(default_factory=lambda: FusionConfig(dim=192, num_layers=3, num_heads=6, dropout=0.1))
    action_head: ActionHeadConfig = field(default_factory=ChunkHeadConfig)
    align: StageConfig = field(default_factory=lambda: _small_stage(NEW_MODULES))
    finetune: StageConfig = field(default_factory=lambda: _small_stage(("llm_backbone", *NEW_MODULES)))
    full_finetune: StageConfig = field(
        default_factory=lambda: _small_stage(("vision_backbone", "llm_backbone", *NEW_MODULES))
    )
    feature_precision: str = "fp16"

    def __post_init__(self) -> None:
        super().__post_init__()
        uses_vggt = self.geometry_encoder.use_pose or self.geometry_encoder.use_pointnet
        require("geometry_encoder", not uses_vggt, "use_pose and use_pointnet need VGGT", self.geometry_encoder)


@dataclass(frozen=True)
class EfficientNetTinyConfig(EfficientNetSmolLM135MConfig):
    """The same architecture with a tiny language model over bytes; its backbones start at random."""

    model_id: ClassVar[str] = "efficientnet-tiny"

    pretrained: bool = False
    processor: ProcessorConfig = field(
        default_factory=lambda: ProcessorConfig(image_size=64, proprio=True, max_instruction_tokens=128)
    )
    efficientnet: EfficientNetConfig = field(default_factory=lambda: EfficientNetConfig(weights=None))
    llm: LLMConfig = field(default_factory=lambda: TINY_LLM)
    geometry_encoder: GeometryEncoderConfig = field(
        default_factory=lambda: GeometryEncoderConfig(dim=64, use_pose=False)
    )
    fusion: FusionConfig = field(default_factory=lambda: FusionConfig(dim=64, num_layers=2, num_heads=4, num_queries=8))
    action_head: ActionHeadConfig = field(default_factory=lambda: ChunkHeadConfig(hidden_dim=64))
    align: StageConfig = field(default_factory=lambda: _tiny_stage(NEW_MODULES))
    finetune: StageConfig = field(default_factory=lambda: _tiny_stage(("llm_backbone", *NEW_MODULES)))
    full_finetune: StageConfig = field(
        default_factory=lambda: _tiny_stage(("vision_backbone", "llm_backbone", *NEW_MODULES))
    )
