"""nanoVLM: SigLIP, pixel shuffle, SmolLM2, trained on packed sequences; its registered sizes.

Values are those of huggingface/nanoVLM at commit 4e0c096, and of its releases v0.1 (222M) and v0.2 (450M).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from vla.conf.checks import require, require_choice, require_fraction, require_nonnegative, require_positive
from vla.conf.models.base import BaseProcessorConfig, ModelConfig
from vla.conf.models.components import LLMConfig
from vla.conf.models.siglip import SigLIP2Base256Config, SigLIPBase224Config, SigLIPConfig, SigLIPTinyConfig
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.registry import variant
from vla.conf.stage import OptimizerConfig, ScheduleConfig, StageConfig
from vla.conf.strategies import DDPConfig

VISION, PROJECTOR, LANGUAGE = "vision_backbone", "projector", "llm_backbone"
MAX_GRID = 8  # rows and columns of tiles that have a token of their own
# How an image's tokens are announced: tiles with the whole image first | tiles | nothing but tokens | no tokens at all:
# embeddings stand in front of the text.
IMAGE_TOKENS = ("global-grid", "grid", "single", "none")
PROMPTS = ("chatml", "question-answer")


@dataclass(frozen=True)
class VQAProcessorConfig(BaseProcessorConfig):
    """How pictures and dialogues become what the model sees."""

    max_length: int = 4096  # tokens of a sequence, the images' included; longer samples are left out
    max_image_side: int = 2048  # pixels of a picture's longer side at most; a multiple of the backbone's image_size
    resize_to_max: bool = True  # enlarge small pictures to max_image_side, too
    image_tokens: str = "global-grid"  # global-grid | grid | single (v0.2: one tile) | none (v0.1: before the text)
    prompt: str = "chatml"  # chatml | question-answer (v0.1)

    def __post_init__(self) -> None:
        require_positive(self, "max_length", "max_image_side")
        require_choice(self, "image_tokens", IMAGE_TOKENS)
        require_choice(self, "prompt", PROMPTS)


@dataclass(frozen=True)
class NanoLMConfig(LLMConfig):
    """A LLaMA-family decoder, with rows of its token table for what the vision-language model adds."""

    weights: str | None = "HuggingFaceTB/SmolLM2-360M-Instruct"
    vocab_size: int = 49152
    hidden_size: int = 960
    intermediate_size: int = 2560
    num_layers: int = 32
    num_heads: int = 15
    num_kv_heads: int = 5
    max_position: int = 8192
    rope_theta: float = 100000.0
    tie_embeddings: bool = True
    num_extra_tokens: int = 66  # rows of the token table besides vocab_size
    dropout: float = 0.0  # share of activations set to zero while training
    rope_scale: float = 1.0  # factor of the rotary embedding's sines and cosines

    def __post_init__(self) -> None:
        super().__post_init__()
        require_nonnegative(self, "num_extra_tokens")
        require_fraction(self, "dropout")
        require_positive(self, "rope_scale")


SMOLLM2_135M: dict[str, Any] = {
    "weights": "HuggingFaceTB/SmolLM2-135M-Instruct", "hidden_size": 576, "intermediate_size": 1536, "num_layers": 30,
    "num_heads": 9, "num_kv_heads": 3,
}  # fmt: skip
TINY_LM: dict[str, Any] = {  # over bytes, a few thousand parameters at random
    "weights": None, "vocab_size": 259, "hidden_size": 64, "intermediate_size": 128, "num_layers": 2, "num_heads": 4,
    "num_kv_heads": 2, "max_position": 512, "tokenizer": "bytes", "num_extra_tokens": 68,
}  # fmt: skip


def _stage(trainable: tuple[str, ...], **overrides: Any) -> StageConfig:
    """Published training values (40,000 steps of 128 sequences, 5e-5, 5.12e-3 for the projector) with `overrides`."""
    values: dict[str, Any] = {
        "max_steps": 40_000, "global_batch_size": 128, "per_device_batch_size": 2, "learning_rate": 5e-5,
        "lr_multipliers": {PROJECTOR: 102.4}, "weight_decay": 0.01, "max_grad_norm": 1.0,
        "optimizer": OptimizerConfig(decay_norms_and_biases=True),
        "schedule": ScheduleConfig(name="cosine", warmup_ratio=0.03, warmup_rule="next_step", min_lr_ratio=0.1),
    }  # fmt: skip
    return StageConfig(trainable=trainable, **(values | overrides))


_TINY: dict[str, Any] = {
    "max_steps": 40, "global_batch_size": 4, "per_device_batch_size": 2, "learning_rate": 1e-3, "precision": "fp32",
    "lr_multipliers": {PROJECTOR: 5.0}, "strategy": DDPConfig(),
}  # fmt: skip


@dataclass(frozen=True)
class NanoVLMConfig(ModelConfig):
    """
    A small vision-language model: pictures cut into tiles, 64 tokens a tile, one sequence after another in a pack.

    Where the published configuration differs: the loss is a mean over the tokens of the global batch (a stage's
    `loss_reduction: microbatch` gives the published mean of micro-batch means), and samples of a pack don't see each
    other (a dataset's `packing.cross_document_attention: true` lets them).
    """

    system: ClassVar[str] = "nanoVLM"
    task: ClassVar[str] = "vqa"
    target: ClassVar[str] = "vla.models.vlms.nanovlm:NanoVLM"
    module_groups: ClassVar[tuple[str, ...]] = (VISION, PROJECTOR, LANGUAGE)

    weights: str | None = None  # published folder or Hugging Face id of a whole nanoVLM; none: its backbones' weights
    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPConfig)
    llm_backbone: NanoLMConfig = field(default_factory=NanoLMConfig)
    pixel_shuffle: int = 4  # patches along each side of a tile that are folded into one token
    attention: str = "auto"  # auto | documents (one by one) | dense (mask of all pairs) | flex (blocks of pairs; CUDA)
    processor: VQAProcessorConfig = field(default_factory=VQAProcessorConfig)
    align: StageConfig = field(default_factory=lambda: _stage((PROJECTOR,)))
    finetune: StageConfig = field(default_factory=lambda: _stage((PROJECTOR, LANGUAGE)))
    full_finetune: StageConfig = field(default_factory=lambda: _stage((VISION, PROJECTOR, LANGUAGE)))

    def __post_init__(self) -> None:
        super().__post_init__()
        vision, processor = self.vision_backbone, self.processor
        size, patch, side = vision.image_size, vision.patch_size, processor.max_image_side
        require_positive(self, "pixel_shuffle")
        require_choice(self, "attention", ("auto", "documents", "dense", "flex"))
        require("vision_backbone.image_size", size % patch == 0, f"must be a multiple of {patch} (patch_size)", size)
        rule = f"must divide the {size // patch} patches along a side"
        require("pixel_shuffle", size // patch % self.pixel_shuffle == 0, rule, self.pixel_shuffle)
        single = processor.image_tokens in ("single", "none")
        rule = f"must be {size} (vision_backbone.image_size) where a picture is one tile" if single else (
            f"must be 1 to {MAX_GRID} times {size} (vision_backbone.image_size)"
        )  # fmt: skip
        fits = side == size if single else side % size == 0 and 1 <= side // size <= MAX_GRID
        require("processor.max_image_side", fits, rule, side)

    @property
    def tokens_per_tile(self) -> int:
        """Tokens that a tile becomes."""
        return (self.vision_backbone.image_size // self.vision_backbone.patch_size // self.pixel_shuffle) ** 2


@variant()
class NanoVLM460MConfig(NanoVLMConfig):
    """SigLIP2-base-512 and SmolLM2-360M, 460 million parameters, as published last."""

    model_id: ClassVar[str] = "nanovlm-460m"


@variant()
class NanoVLM230MConfig(NanoVLMConfig):
    """SigLIP2-base-512 and SmolLM2-135M, 228 million parameters."""

    model_id: ClassVar[str] = "nanovlm-230m"

    llm_backbone: NanoLMConfig = field(default_factory=lambda: NanoLMConfig(**SMOLLM2_135M))


@variant()
class NanoVLM450MConfig(NanoVLMConfig):
    """SigLIP2-base-256 and SmolLM2-360M, as released with v0.2: a picture is one tile of 64 tokens."""

    model_id: ClassVar[str] = "nanovlm-450m"

    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIP2Base256Config)
    llm_backbone: NanoLMConfig = field(default_factory=lambda: NanoLMConfig(num_extra_tokens=1))
    pixel_shuffle: int = 2
    processor: VQAProcessorConfig = field(
        default_factory=lambda: VQAProcessorConfig(max_image_side=256, image_tokens="single")
    )


@variant()
class NanoVLM222MConfig(NanoVLMConfig):
    """SigLIP-base-224 and SmolLM2-135M, as released with v0.1: a picture's 49 embeddings in front of the text."""

    model_id: ClassVar[str] = "nanovlm-222m"

    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPBase224Config)
    llm_backbone: NanoLMConfig = field(
        default_factory=lambda: NanoLMConfig(
            **{**SMOLLM2_135M, "weights": "HuggingFaceTB/SmolLM2-135M", "num_extra_tokens": 0}
        )
    )
    pixel_shuffle: int = 2
    processor: VQAProcessorConfig = field(
        default_factory=lambda: VQAProcessorConfig(
            max_image_side=224, image_tokens="none", prompt="question-answer", max_length=1024
        )
    )


@variant()
class NanoVLMTinyConfig(NanoVLMConfig):
    """The same architecture with a few thousand parameters at random over bytes, for tests."""

    model_id: ClassVar[str] = "nanovlm-tiny"

    pretrained: bool = False
    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPTinyConfig)
    llm_backbone: NanoLMConfig = field(default_factory=lambda: NanoLMConfig(**TINY_LM))
    pixel_shuffle: int = 2
    processor: VQAProcessorConfig = field(default_factory=lambda: VQAProcessorConfig(max_length=512, max_image_side=64))
    align: StageConfig = field(default_factory=lambda: _stage((PROJECTOR,), **_TINY))
    finetune: StageConfig = field(default_factory=lambda: _stage((PROJECTOR, LANGUAGE), **_TINY))
    full_finetune: StageConfig = field(default_factory=lambda: _stage((VISION, PROJECTOR, LANGUAGE), **_TINY))
