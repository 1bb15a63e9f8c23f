"""What the Prismatic family shares: a vision backbone, a projector, a language model, and how they are trained.

Values are those of TRI-ML/prismatic-vlms at commit 874c5bb (arXiv 2402.07865), but for what `PrismaticConfig` says.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from vla.conf.checks import require, require_choice
from vla.conf.models.base import LanguageProcessorConfig, ModelConfig
from vla.conf.models.language import CausalLMConfig, Vicuna7BConfig
from vla.conf.models.lora import LoRAConfig
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.models.vision_backbones import CLIPViTL336Config
from vla.conf.stage import ScheduleConfig, Stage, StageConfig
from vla.conf.strategies import FSDPFullShardConfig, FSDPShardGradOpConfig

VISION, PROJECTOR, LANGUAGE = "vision_backbone", "projector", "llm_backbone"
LAST_LAYER = f"{LANGUAGE}.last_layer"
PROJECTORS = ("linear", "gelu-mlp", "fused-gelu-mlp")
NO_ALIGN = "no-align+"  # in front of a projector's name: trained without an align stage


@dataclass(frozen=True)
class Release:
    """Weights that were released under a model's id, and what was said about them. None: what the config says."""

    names: tuple[str, ...]
    title: str | None = None  # None: the first of `names`
    visual: str | None = None
    datasets: tuple[str, ...] = ("LLaVa v1.5 Instruct",)
    epochs: float | None = None
    full_finetune: bool = False


ALL_DATASETS = ("LLaVa v1.5 Instruct", "LVIS-Instruct-4V", "LRV-Instruct")


def align_stage(**overrides: Any) -> StageConfig:
    """The published align stage with `overrides`."""
    values: dict[str, Any] = {
        "trainable": (PROJECTOR,), "global_batch_size": 256, "learning_rate": 1e-3, "weight_decay": 0.0,
        "strategy": FSDPShardGradOpConfig(reduce_dtype="bf16"),
    }  # fmt: skip
    return _stage(values | overrides)


def finetune_stage(**overrides: Any) -> StageConfig:
    """The published finetune stage with `overrides`."""
    values: dict[str, Any] = {
        "trainable": (PROJECTOR, LANGUAGE), "global_batch_size": 128, "learning_rate": 2e-5, "weight_decay": 0.1,
        "strategy": FSDPFullShardConfig(reduce_dtype="bf16"),
    }  # fmt: skip
    return _stage(values | overrides)


def full_finetune_stage(**overrides: Any) -> StageConfig:
    """The published full-finetune stage with `overrides`: finetune's values, and the vision backbone trains too."""
    return finetune_stage(**({"trainable": (VISION, PROJECTOR, LANGUAGE)} | overrides))


def _stage(values: dict[str, Any]) -> StageConfig:
    shared: dict[str, Any] = {
        "epochs": 1, "per_device_batch_size": 16, "max_grad_norm": 1.0, "precision": "bf16",
        "gradient_checkpointing": True,
        "schedule": ScheduleConfig(name="cosine", warmup_ratio=0.03, warmup_rule="from_zero"),
    }  # fmt: skip
    return StageConfig(**(shared | values))


@dataclass(frozen=True)
class VLMConfig(ModelConfig):
    """The parts of Prismatic and of what was made of it: an image's patches, projected, among a text's tokens."""

    module_groups: ClassVar[tuple[str, ...]] = (VISION, PROJECTOR, LANGUAGE)
    module_parts: ClassVar[tuple[str, ...]] = (LAST_LAYER,)

    vision_backbone: VisionBackboneConfig = field(default_factory=CLIPViTL336Config)
    llm_backbone: CausalLMConfig = field(default_factory=Vicuna7BConfig)
    arch_specifier: str = "gelu-mlp"  # linear | gelu-mlp | fused-gelu-mlp; "no-align+" in front: no align stage
    feature_precision: str = "fp32"  # fp32 | fp16: in which a frozen vision backbone's features are given and kept
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"must be one of {', '.join(PROJECTORS)}, or {NO_ALIGN} and one of them"
        require("arch_specifier", self.projector_type in PROJECTORS, rule, self.arch_specifier)
        require_choice(self, "feature_precision", ("fp32", "fp16"))

    @property
    def projector_type(self) -> str:
        """linear | gelu-mlp | fused-gelu-mlp."""
        return self.arch_specifier.removeprefix(NO_ALIGN)

    @property
    def skips_align(self) -> bool:
        """Whether the published model was trained without an align stage."""
        return self.arch_specifier.startswith(NO_ALIGN)


@dataclass(frozen=True)
class PrismaticConfig(VLMConfig):
    """Patches of an image, projected, take their place among a language model's tokens.

    Where the published configuration differs: the loss is a mean over the tokens of the global batch (a stage's
    `loss_reduction: microbatch` gives the published mean of micro-batch means).
    """

    system: ClassVar[str] = "Prismatic"
    task: ClassVar[str] = "language"
    target: ClassVar[str] = "vla.models.vlms.prismatic:PrismaticVLM"
    release: ClassVar[Release | None] = None

    processor: LanguageProcessorConfig = field(default_factory=LanguageProcessorConfig)
    align: StageConfig = field(default_factory=align_stage)
    finetune: StageConfig = field(default_factory=finetune_stage)
    full_finetune: StageConfig = field(default_factory=full_finetune_stage)

    def stage_before(self, stage: Stage) -> Stage | None:
        """Projectors at random are aligned first, unless the model skips it."""
        return None if self.skips_align or stage is Stage.ALIGN else Stage.ALIGN


def naive_resize() -> LanguageProcessorConfig:
    """Images squeezed to a square."""
    return LanguageProcessorConfig(image_resize_strategy="resize-naive")


def crop_resize() -> LanguageProcessorConfig:
    """The middle square of images."""
    return LanguageProcessorConfig(image_resize_strategy="resize-crop")
