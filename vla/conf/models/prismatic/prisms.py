"""The Prisms: Prismatic's best models. "Controlled" ones saw LLaVA's data for one epoch, the others all for two."""

from dataclasses import field
from functools import partial
from typing import ClassVar

from vla.conf.models.base import LanguageProcessorConfig
from vla.conf.models.language import CausalLMConfig, Llama2_7BPureConfig, Llama2_13BPureConfig
from vla.conf.models.prismatic.base import (
    ALL_DATASETS,
    PrismaticConfig,
    Release,
    finetune_stage,
    full_finetune_stage,
    naive_resize,
)
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.models.vision_backbones import DINOSigLIPViTSO224Config, DINOSigLIPViTSO384Config, SigLIPViTSO384Config
from vla.conf.registry import variant
from vla.conf.stage import StageConfig


@variant()
class PrismCLIPControlled7BConfig(PrismaticConfig):
    """CLIP and Llama-2 7B, controlled."""

    model_id: ClassVar[str] = "prism-clip-controlled+7b"
    release: ClassVar[Release | None] = Release(("Prism-CLIP 7B (Controlled)",), title="CLIP Prism 7B (Controlled)")
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_7BPureConfig)
    arch_specifier: str = "no-align+gelu-mlp"
    processor: LanguageProcessorConfig = field(default_factory=naive_resize)


@variant()
class PrismCLIPControlled13BConfig(PrismCLIPControlled7BConfig):
    """CLIP and Llama-2 13B, controlled."""

    model_id: ClassVar[str] = "prism-clip-controlled+13b"
    release: ClassVar[Release | None] = Release(("Prism-CLIP 13B (Controlled)",), title="CLIP Prism 13B (Controlled)")
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BPureConfig)


@variant()
class PrismCLIP7BConfig(PrismCLIPControlled7BConfig):
    """CLIP and Llama-2 7B."""

    model_id: ClassVar[str] = "prism-clip+7b"
    release: ClassVar[Release | None] = Release(("Prism-CLIP 7B",), title="CLIP Prism 7B", datasets=ALL_DATASETS)
    finetune: StageConfig = field(default_factory=partial(finetune_stage, epochs=2))
    full_finetune: StageConfig = field(default_factory=partial(full_finetune_stage, epochs=2))


@variant()
class PrismCLIP13BConfig(PrismCLIP7BConfig):
    """CLIP and Llama-2 13B."""

    model_id: ClassVar[str] = "prism-clip+13b"
    release: ClassVar[Release | None] = Release(("Prism-CLIP 13B",), title="CLIP Prism 13B", datasets=ALL_DATASETS)
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BPureConfig)


@variant()
class PrismSigLIPControlled7BConfig(PrismCLIPControlled7BConfig):
    """SigLIP and Llama-2 7B, controlled."""

    model_id: ClassVar[str] = "prism-siglip-controlled+7b"
    release: ClassVar[Release | None] = Release(("Prism-SigLIP 7B (Controlled)",), title="SigLIP Prism 7B (Controlled)")
    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPViTSO384Config)


@variant()
class PrismSigLIPControlled13BConfig(PrismSigLIPControlled7BConfig):
    """SigLIP and Llama-2 13B, controlled."""

    model_id: ClassVar[str] = "prism-siglip-controlled+13b"
    release: ClassVar[Release | None] = Release(
        ("Prism-SigLIP 13B (Controlled)",), title="SigLIP Prism 13B (Controlled)"
    )
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BPureConfig)


@variant()
class PrismSigLIP7BConfig(PrismCLIP7BConfig):
    """SigLIP and Llama-2 7B."""

    model_id: ClassVar[str] = "prism-siglip+7b"
    release: ClassVar[Release | None] = Release(("Prism-SigLIP 7B",), title="SigLIP Prism 7B", datasets=ALL_DATASETS)
    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPViTSO384Config)


@variant()
class PrismSigLIP13BConfig(PrismSigLIP7BConfig):
    """SigLIP and Llama-2 13B.

    The published registry gives it CLIP, by a slip in its class's parents: no released weights can depend on that,
    since loading them follows the configuration that lies beside them.
    """

    model_id: ClassVar[str] = "prism-siglip+13b"
    release: ClassVar[Release | None] = Release(("Prism-SigLIP 13B",), title="SigLIP Prism 13B", datasets=ALL_DATASETS)
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BPureConfig)


@variant()
class PrismDINOSigLIPControlled7BConfig(PrismCLIPControlled7BConfig):
    """DINOv2, SigLIP and Llama-2 7B, controlled."""

    model_id: ClassVar[str] = "prism-dinosiglip-controlled+7b"
    release: ClassVar[Release | None] = Release(
        ("Prism-DINOSigLIP 7B (Controlled)", "Prism 7B (Controlled)"), title="DINOSigLIP Prism 7B (Controlled)"
    )
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTSO384Config)
    arch_specifier: str = "no-align+fused-gelu-mlp"


@variant()
class PrismDINOSigLIPControlled13BConfig(PrismDINOSigLIPControlled7BConfig):
    """DINOv2, SigLIP and Llama-2 13B, controlled."""

    model_id: ClassVar[str] = "prism-dinosiglip-controlled+13b"
    release: ClassVar[Release | None] = Release(
        ("Prism-DINOSigLIP 13B (Controlled)", "Prism 13B (Controlled)"), title="DINOSigLIP Prism 13B (Controlled)"
    )
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BPureConfig)


@variant()
class PrismDINOSigLIP7BConfig(PrismCLIP7BConfig):
    """DINOv2, SigLIP and Llama-2 7B."""

    model_id: ClassVar[str] = "prism-dinosiglip+7b"
    release: ClassVar[Release | None] = Release(
        ("Prism-DINOSigLIP 7B",), title="DINOSigLIP Prism 7B", datasets=ALL_DATASETS
    )
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTSO384Config)
    arch_specifier: str = "no-align+fused-gelu-mlp"


@variant()
class PrismDINOSigLIP13BConfig(PrismDINOSigLIP7BConfig):
    """DINOv2, SigLIP and Llama-2 13B."""

    model_id: ClassVar[str] = "prism-dinosiglip+13b"
    release: ClassVar[Release | None] = Release(
        ("Prism-DINOSigLIP 13B",), title="DINOSigLIP Prism 13B", datasets=ALL_DATASETS
    )
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BPureConfig)


_VISUAL_224 = "DINOv2 ViT-L/14 + SigLIP ViT-SO 14 @ 224px"  # as published


@variant()
class PrismDINOSigLIP224pxControlled7BConfig(PrismDINOSigLIPControlled7BConfig):
    """DINOv2, SigLIP at 224 pixels and Llama-2 7B, controlled."""

    model_id: ClassVar[str] = "prism-dinosiglip-224px-controlled+7b"
    release: ClassVar[Release | None] = Release(
        ("Prism-DINOSigLIP 224px 7B (Controlled)",), title="DINOSigLIP 224px 7B (Controlled)", visual=_VISUAL_224
    )
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTSO224Config)


@variant()
class PrismDINOSigLIP224px7BConfig(PrismDINOSigLIP7BConfig):
    """DINOv2, SigLIP at 224 pixels and Llama-2 7B; what OpenVLA grew from."""

    model_id: ClassVar[str] = "prism-dinosiglip-224px+7b"
    release: ClassVar[Release | None] = Release(
        ("Prism-DINOSigLIP 224px 7B",), title="DINOSigLIP 224px 7B", visual=_VISUAL_224, datasets=ALL_DATASETS
    )
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTSO224Config)
