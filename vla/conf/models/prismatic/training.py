"""Published experiments on training: in one stage or two, on which data, how long, and from which language model."""

from dataclasses import field
from functools import partial
from typing import ClassVar

from vla.conf.models.language import (
    CausalLMConfig,
    Llama2_7BChatConfig,
    Llama2_7BPureConfig,
    Llama2_13BChatConfig,
    Llama2_13BPureConfig,
    Mistral7BInstructConfig,
    Mistral7BPureConfig,
    Phi2Config,
    Vicuna13BConfig,
)
from vla.conf.models.prismatic.base import (
    ALL_DATASETS,
    PrismaticConfig,
    Release,
    finetune_stage,
    full_finetune_stage,
)
from vla.conf.registry import variant
from vla.conf.stage import StageConfig


@variant()
class Reproduction7BConfig(PrismaticConfig):
    """LLaVA v1.5 7B, reproduced: align, then finetune."""

    model_id: ClassVar[str] = "reproduction-llava-v15+7b"
    release: ClassVar[Release | None] = Release(("LLaVa v1.5 7B (Reproduction)",))


@variant()
class Reproduction13BConfig(PrismaticConfig):
    """LLaVA v1.5 13B, reproduced: align, then finetune."""

    model_id: ClassVar[str] = "reproduction-llava-v15+13b"
    release: ClassVar[Release | None] = Release(("LLaVa v1.5 13B (Reproduction)",))
    llm_backbone: CausalLMConfig = field(default_factory=Vicuna13BConfig)


@variant()
class OneStage7BConfig(PrismaticConfig):
    """Vicuna 7B, finetuned without an align stage: what the other experiments are compared with."""

    model_id: ClassVar[str] = "one-stage+7b"
    release: ClassVar[Release | None] = Release(
        (
            "One-Stage 7B", "Single-Stage 7B", "Frozen ViT (Single-Stage)", "CLIP ViT-L 336px (Letterbox)",
            "CLIP ViT-L 336px", "Vicuña v1.5 7B", "1 Epoch", "Base",
        ),
        title="Single-Stage 7B",
    )  # fmt: skip
    arch_specifier: str = "no-align+gelu-mlp"


@variant()
class OneStage13BConfig(OneStage7BConfig):
    """Vicuna 13B, finetuned without an align stage."""

    model_id: ClassVar[str] = "one-stage+13b"
    release: ClassVar[Release | None] = Release(
        ("One-Stage 13B", "Single-Stage 13B", "Vicuña v1.5 13B"), title="Single-Stage 13B"
    )
    llm_backbone: CausalLMConfig = field(default_factory=Vicuna13BConfig)


@variant()
class FullFinetuneMultiStage7BConfig(PrismaticConfig):
    """Align, then full-finetune: the vision backbone trains, too."""

    model_id: ClassVar[str] = "full-ft-multi-stage+7b"
    release: ClassVar[Release | None] = Release(("Finetune ViT (Multi-Stage)",), full_finetune=True)


@variant()
class FullFinetuneOneStage7BConfig(OneStage7BConfig):
    """Full-finetune at once: the vision backbone trains, too."""

    model_id: ClassVar[str] = "full-ft-one-stage+7b"
    release: ClassVar[Release | None] = Release(("Finetune ViT (Single-Stage)",), full_finetune=True)


@variant()
class Llama2_7BConfig(OneStage7BConfig):  # noqa: N801 - the number's two parts would run together
    """Llama-2 7B instead of Vicuna."""

    model_id: ClassVar[str] = "llama2+7b"
    release: ClassVar[Release | None] = Release(("Llama-2 7B",))
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_7BPureConfig)


@variant()
class Llama2_13BConfig(OneStage7BConfig):  # noqa: N801
    """Llama-2 13B instead of Vicuna."""

    model_id: ClassVar[str] = "llama2+13b"
    release: ClassVar[Release | None] = Release(("Llama-2 13B",))
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BPureConfig)


@variant()
class Llama2Chat7BConfig(OneStage7BConfig):
    """Llama-2 7B Chat instead of Vicuna."""

    model_id: ClassVar[str] = "llama2-chat+7b"
    release: ClassVar[Release | None] = Release(("Llama-2 Chat 7B",))
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_7BChatConfig)


@variant()
class Llama2Chat13BConfig(OneStage7BConfig):
    """Llama-2 13B Chat instead of Vicuna."""

    model_id: ClassVar[str] = "llama2-chat+13b"
    release: ClassVar[Release | None] = Release(("Llama-2 Chat 13B",))
    llm_backbone: CausalLMConfig = field(default_factory=Llama2_13BChatConfig)


@variant()
class Mistral7BConfig(OneStage7BConfig):
    """Mistral v0.1 7B instead of Vicuna."""

    model_id: ClassVar[str] = "mistral-v0.1+7b"
    release: ClassVar[Release | None] = Release(("Mistral v0.1 7B",))
    llm_backbone: CausalLMConfig = field(default_factory=Mistral7BPureConfig)


@variant()
class MistralInstruct7BConfig(OneStage7BConfig):
    """Mistral v0.1 7B Instruct instead of Vicuna."""

    model_id: ClassVar[str] = "mistral-instruct-v0.1+7b"
    release: ClassVar[Release | None] = Release(("Mistral Instruct v0.1 7B",))
    llm_backbone: CausalLMConfig = field(default_factory=Mistral7BInstructConfig)


@variant()
class Phi2_3BConfig(OneStage7BConfig):  # noqa: N801
    """Phi-2 instead of Vicuna."""

    model_id: ClassVar[str] = "phi-2+3b"
    release: ClassVar[Release | None] = Release(("Phi-2 3B",))
    llm_backbone: CausalLMConfig = field(default_factory=Phi2Config)


@variant()
class VicunaNoCotraining7BConfig(OneStage7BConfig):
    """Finetuned without the text-only examples (dataset llava-multimodal)."""

    model_id: ClassVar[str] = "vicuna-no-cotraining+7b"
    release: ClassVar[Release | None] = Release(
        ("Vicuña v1.5 7B (No Co-training)",), datasets=("LLaVa v1.5 Multimodal-Only",)
    )


@variant()
class Llama2NoCotraining7BConfig(Llama2_7BConfig):
    """Llama-2 7B, finetuned without the text-only examples (dataset llava-multimodal)."""

    model_id: ClassVar[str] = "llama2-no-cotraining+7b"
    release: ClassVar[Release | None] = Release(
        ("Llama-2 7B (No Co-training)",), datasets=("LLaVa v1.5 Multimodal-Only",)
    )


@variant()
class Train125Epochs7BConfig(OneStage7BConfig):
    """Finetuned for 6,500 steps, which are 1.25 epochs."""

    model_id: ClassVar[str] = "train-1.25-epochs+7b"
    release: ClassVar[Release | None] = Release(("1.25 Epochs",), epochs=1.25)
    finetune: StageConfig = field(default_factory=partial(finetune_stage, max_steps=6500))
    full_finetune: StageConfig = field(default_factory=partial(full_finetune_stage, max_steps=6500))


@variant()
class Train150Epochs7BConfig(OneStage7BConfig):
    """Finetuned for 7,800 steps, which are 1.5 epochs."""

    model_id: ClassVar[str] = "train-1.5-epochs+7b"
    release: ClassVar[Release | None] = Release(("1.5 Epochs",), epochs=1.5)
    finetune: StageConfig = field(default_factory=partial(finetune_stage, max_steps=7800))
    full_finetune: StageConfig = field(default_factory=partial(full_finetune_stage, max_steps=7800))


@variant()
class Train2Epochs7BConfig(OneStage7BConfig):
    """Finetuned for two epochs."""

    model_id: ClassVar[str] = "train-2-epochs+7b"
    release: ClassVar[Release | None] = Release(("2 Epochs",))
    finetune: StageConfig = field(default_factory=partial(finetune_stage, epochs=2))
    full_finetune: StageConfig = field(default_factory=partial(full_finetune_stage, epochs=2))


@variant()
class Train3Epochs7BConfig(OneStage7BConfig):
    """Finetuned for three epochs."""

    model_id: ClassVar[str] = "train-3-epochs+7b"
    release: ClassVar[Release | None] = Release(("3 Epochs",))
    finetune: StageConfig = field(default_factory=partial(finetune_stage, epochs=3))
    full_finetune: StageConfig = field(default_factory=partial(full_finetune_stage, epochs=3))


@variant()
class LLaVALVIS4V7BConfig(OneStage7BConfig):
    """Finetuned on LVIS-Instruct-4V, too (dataset llava-lvis4v)."""

    model_id: ClassVar[str] = "llava-lvis4v+7b"
    release: ClassVar[Release | None] = Release(("Base + LVIS-4V",), datasets=ALL_DATASETS[:2])


@variant()
class LLaVALRV7BConfig(OneStage7BConfig):
    """Finetuned on LRV-Instruct, too (dataset llava-lrv)."""

    model_id: ClassVar[str] = "llava-lrv+7b"
    release: ClassVar[Release | None] = Release(("Base + LRV",), datasets=ALL_DATASETS[::2])


@variant()
class LLaVALVIS4VLRV7BConfig(OneStage7BConfig):
    """Finetuned on LVIS-Instruct-4V and LRV-Instruct, too (dataset llava-lvis4v-lrv)."""

    model_id: ClassVar[str] = "llava-lvis4v-lrv+7b"
    release: ClassVar[Release | None] = Release(("Base + LVIS-4V + LRV",), datasets=ALL_DATASETS)
