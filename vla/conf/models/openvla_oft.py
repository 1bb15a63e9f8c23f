"""OpenVLA-OFT: all actions of a chunk at once, from the hidden states at their places.

Values are those of moojink/openvla-oft at commit 213c5ff (arXiv 2502.19645).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import draccus

from vla.conf.checks import require, require_positive
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.language import CausalLMConfig, LlamaTinyConfig
from vla.conf.models.lora import LoRAConfig
from vla.conf.models.openvla import OpenVLAConfig, published_images, tiny_stage, vla_stage
from vla.conf.models.prismatic.base import LANGUAGE, PROJECTOR, VISION
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.models.vision_backbones import DINOSigLIPViTTinyConfig
from vla.conf.registry import variant
from vla.conf.stage import ScheduleConfig, StageConfig
from vla.conf.strategies import DDPConfig

HEAD = "action_head"


@dataclass(frozen=True)
class OFTHeadConfig(draccus.ChoiceRegistry):
    """Base of what makes actions of hidden states."""

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "l1"


@OFTHeadConfig.register_subclass("l1")
@dataclass(frozen=True)
class L1HeadConfig(OFTHeadConfig):
    """Regression of the actions; mean absolute error."""

    hidden_dim: int = 4096  # width
    num_blocks: int = 2  # residual blocks

    def __post_init__(self) -> None:
        require_positive(self, "hidden_dim", "num_blocks")


@OFTHeadConfig.register_subclass("diffusion")
@dataclass(frozen=True)
class DiffusionHeadConfig(L1HeadConfig):
    """Denoising from noise to actions (DDIM); the language model runs once for every step."""

    num_train_steps: int = 50  # levels of noise
    num_inference_steps: int = 50  # steps from noise to actions when predicting

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "num_train_steps", "num_inference_steps")
        require(
            "num_inference_steps", self.num_inference_steps <= self.num_train_steps,
            f"must be at most num_train_steps ({self.num_train_steps})", self.num_inference_steps,
        )  # fmt: skip


@OFTHeadConfig.register_subclass("discrete")
@dataclass(frozen=True)
class DiscreteHeadConfig(OFTHeadConfig):
    """Action tokens, all at once; cross entropy."""


@dataclass(frozen=True)
class Platform:
    """What a kind of robot fixes. Published code finds it out from the words of its command line."""

    num_actions: int
    action_dim: int
    proprio_dim: int
    normalization: str


PLATFORMS = {
    "libero": Platform(8, 7, 8, "bounds_q99"),
    "aloha": Platform(25, 14, 14, "bounds"),
    "bridge": Platform(5, 7, 7, "bounds_q99"),
}


def platform_processor(platform: str, **overrides: Any) -> ProcessorConfig:
    """What the model sees of a platform, and how its actions are normalised."""
    values: dict[str, Any] = {
        "cameras": ("agentview", "eye_in_hand"), "proprio": True, "normalization_rule": "openvla_oft",
        "action_dim": PLATFORMS[platform].action_dim, "normalization": PLATFORMS[platform].normalization,
    }  # fmt: skip
    return published_images(**(values | overrides))


def oft_stage(*trainable: str, **overrides: Any) -> StageConfig:
    """Published fine-tuning on LIBERO, for the module groups that train, with `overrides`."""
    values: dict[str, Any] = {
        "epochs": 1, "max_steps": 150_005, "global_batch_size": 64, "per_device_batch_size": 8, "learning_rate": 5e-4,
        "weight_decay": 0.01, "max_grad_norm": None, "gradient_checkpointing": False, "strategy": DDPConfig(),
        "schedule": ScheduleConfig(name="multistep", milestones=(100_000,), gamma=0.1),
    }  # fmt: skip
    return vla_stage(*trainable, **(values | overrides))


@dataclass(frozen=True)
class OpenVLAOFTConfig(OpenVLAConfig):
    """OpenVLA that predicts a chunk of actions in one pass, with attention in both directions.

    Where the published configuration differs: the ends of trajectories are kept and masked.
    """

    system: ClassVar[str] = "OpenVLA-OFT"
    target: ClassVar[str] = "vla.models.vlas.openvla_oft:OpenVLAOFT"
    module_groups: ClassVar[tuple[str, ...]] = (VISION, PROJECTOR, LANGUAGE, HEAD)

    processor: ProcessorConfig = field(default_factory=lambda: platform_processor("libero"))
    align: StageConfig = field(default_factory=lambda: oft_stage(PROJECTOR, HEAD))
    finetune: StageConfig = field(default_factory=lambda: oft_stage(PROJECTOR, LANGUAGE, HEAD))
    full_finetune: StageConfig = field(default_factory=lambda: oft_stage(VISION, PROJECTOR, LANGUAGE, HEAD))
    num_actions: int = PLATFORMS["libero"].num_actions
    proprio_dim: int = PLATFORMS["libero"].proprio_dim  # values of the robot's state, where processor.proprio
    action_head: OFTHeadConfig = field(default_factory=L1HeadConfig)
    lora: LoRAConfig = field(default_factory=lambda: LoRAConfig(rank=32))
    film: bool = False  # the instruction modulates what the vision backbone sees, in every block

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "proprio_dim")
        transformers = bool(self.vision_backbone.towers)
        require("film", transformers or not self.film, "needs a vision backbone of transformers", self.film)


@variant()
class OpenVLAOFT7BConfig(OpenVLAOFTConfig):
    """OpenVLA-OFT 7B for LIBERO: two cameras, the robot's state, L1 regression."""

    model_id: ClassVar[str] = "openvla-oft-7b"
    base_vlm: ClassVar[str] = "prism-dinosiglip-224px+7b"

    weights: str | None = "openvla/openvla-7b"


def _aloha_stage(*trainable: str) -> StageConfig:
    schedule = ScheduleConfig(name="multistep", milestones=(50_000,), gamma=0.1)
    return oft_stage(*trainable, max_steps=100_005, global_batch_size=32, per_device_batch_size=4, schedule=schedule)


@variant()
class OpenVLAOFTAloha7BConfig(OpenVLAOFT7BConfig):
    """OpenVLA-OFT+ 7B for ALOHA's two arms: three cameras, the robot's state, FiLM."""

    model_id: ClassVar[str] = "openvla-oft-7b-aloha"

    processor: ProcessorConfig = field(
        default_factory=lambda: platform_processor("aloha", cameras=("cam_high", "cam_left_wrist", "cam_right_wrist"))
    )
    align: StageConfig = field(default_factory=lambda: _aloha_stage(PROJECTOR, HEAD))
    finetune: StageConfig = field(default_factory=lambda: _aloha_stage(PROJECTOR, LANGUAGE, HEAD))
    full_finetune: StageConfig = field(default_factory=lambda: _aloha_stage(VISION, PROJECTOR, LANGUAGE, HEAD))
    num_actions: int = PLATFORMS["aloha"].num_actions
    proprio_dim: int = PLATFORMS["aloha"].proprio_dim
    gripper_tokens: str = "model"
    film: bool = True


@variant()
class OpenVLAOFTBridge7BConfig(OpenVLAOFT7BConfig):
    """OpenVLA-OFT 7B for BridgeData V2's robot: one camera, its state, L1 regression."""

    model_id: ClassVar[str] = "openvla-oft-7b-bridge"

    processor: ProcessorConfig = field(default_factory=lambda: platform_processor("bridge", cameras=("image_0",)))
    num_actions: int = PLATFORMS["bridge"].num_actions
    proprio_dim: int = PLATFORMS["bridge"].proprio_dim


def _tiny(*trainable: str) -> StageConfig:
    return tiny_stage(*trainable, HEAD)


@variant()
class OpenVLAOFTTinyConfig(OpenVLAOFTConfig):
    """The same architecture with a few thousand parameters at random, for tests."""

    model_id: ClassVar[str] = "openvla-oft-tiny"

    pretrained: bool = False
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTTinyConfig)
    llm_backbone: CausalLMConfig = field(default_factory=LlamaTinyConfig)
    processor: ProcessorConfig = field(default_factory=lambda: platform_processor("libero", image_size=28))
    align: StageConfig = field(default_factory=lambda: _tiny(PROJECTOR))
    finetune: StageConfig = field(default_factory=lambda: _tiny(PROJECTOR, LANGUAGE))
    full_finetune: StageConfig = field(default_factory=lambda: _tiny(VISION, PROJECTOR, LANGUAGE))
    action_head: OFTHeadConfig = field(default_factory=lambda: L1HeadConfig(hidden_dim=64))
    lora: LoRAConfig = field(default_factory=LoRAConfig)
