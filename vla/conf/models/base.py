"""What every model's configuration has: its stages and its input and output contract (`ProcessorConfig`)."""

from dataclasses import dataclass, field
from typing import ClassVar

import draccus

from vla.conf.checks import require, require_choice, require_positive
from vla.conf.stage import Stage, StageConfig


@dataclass(frozen=True)
class BaseProcessorConfig:
    """Base of what a model says about its inputs and outputs."""


@dataclass(frozen=True)
class ProcessorConfig(BaseProcessorConfig):
    """How raw observations and actions become what the model sees, the same in training, evaluation and serving."""

    cameras: tuple[str, ...] = ("agentview", "eye_in_hand")  # order in which the model sees them
    num_frames: int = 1  # history: frames per camera, the current one last
    frame_stride: int = 1  # control steps between two frames of the history
    image_size: int = 224  # pixels, square, after resizing
    jpeg_quality: int | None = None  # images lose what a JPEG of this quality (OpenVLA: 95) loses; none: nothing
    resize: str = "bicubic"  # bilinear | bicubic | lanczos (antialiased, Pillow's) | lanczos3 (TensorFlow's, OpenVLA)
    center_crop: float | None = None  # share of the area to keep, then resized back (OpenVLA: 0.9); none: all of it
    augmentation: bool = False  # crop training images at random instead, and recolour them, as OpenVLA's fine-tuning
    orientation: str = "upright"  # upright (rows flipped) | rotate_180 (OpenVLA) | raw (as stored)
    proprio: bool = False  # give the model the robot's state
    proprio_dim: int = 8  # values of that state; LIBERO's: position (3), axis-angle rotation (3), fingers (2)
    action_dim: int = 7  # translation (3), axis-angle rotation (3), gripper
    normalization: str = "bounds_q99"  # none | bounds | bounds_q99 | mean_std, of actions (not the gripper) and proprio
    normalization_rule: str = "exact"  # exact | openvla | openvla_oft (constants and rounding terms as published)
    max_instruction_tokens: int = 64  # longer instructions are cut

    def __post_init__(self) -> None:
        require("cameras", bool(self.cameras), "must name at least one camera", self.cameras)
        require_positive(self, "num_frames", "frame_stride", "image_size", "proprio_dim", "action_dim")
        require_positive(self, "max_instruction_tokens")
        require_choice(self, "resize", ("bilinear", "bicubic", "lanczos", "lanczos3"))
        quality, area = self.jpeg_quality, self.center_crop
        require("jpeg_quality", quality is None or 1 <= quality <= 100, "must be in [1, 100]", quality)
        require("center_crop", area is None or 0 < area <= 1, "must be in (0, 1]", area)
        require_choice(self, "orientation", ("upright", "rotate_180", "raw"))
        require_choice(self, "normalization", ("none", "bounds", "bounds_q99", "mean_std"))
        require_choice(self, "normalization_rule", ("exact", "openvla", "openvla_oft"))


@dataclass(frozen=True)
class LanguageProcessorConfig(BaseProcessorConfig):
    """How images and dialogues become what a vision-language model sees."""

    image_resize_strategy: str = "letterbox"  # letterbox (border) | resize-crop (short side) | resize-naive (squeezed)
    max_length: int = 2048  # tokens of the longest sequence, without the image's; longer ones are cut
    system_prompt: str | None = None  # what the language model is told about itself; none: its prompt format's own

    def __post_init__(self) -> None:
        require_choice(self, "image_resize_strategy", ("letterbox", "resize-crop", "resize-naive"))
        require_positive(self, "max_length")


@dataclass(frozen=True)
class ModelConfig(draccus.ChoiceRegistry):
    """Base of all models. `target` is the class that implements it; it is never read from a file."""

    model_id: ClassVar[str] = ""
    system: ClassVar[str] = ""  # the published system that it belongs to
    task: ClassVar[str] = ""  # key of vla.training.materialize.TASKS: action | language | anomaly
    target: ClassVar[str] = ""
    module_groups: ClassVar[tuple[str, ...]] = ()
    module_parts: ClassVar[tuple[str, ...]] = ()  # "<group>.<part>": what else a stage's `trainable` may name

    pretrained: bool = True  # false: the same shapes at random, nothing is looked up or downloaded
    processor: BaseProcessorConfig = field(default_factory=ProcessorConfig)  # a family says which
    align: StageConfig = field(default_factory=StageConfig)
    finetune: StageConfig = field(default_factory=StageConfig)
    full_finetune: StageConfig = field(default_factory=StageConfig)

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "vggt-tiny"

    def __post_init__(self) -> None:
        for stage in Stage:
            config, name = self.stage(stage), stage.field_name
            known = (*self.module_groups, *self.module_parts)
            for group in config.trainable:
                require(f"{name}.trainable", group in known, f"must be of {', '.join(known)}", group)
            for group in config.lr_multipliers:
                rule = f"must be of {', '.join(self.module_groups)}"
                require(f"{name}.lr_multipliers", group in self.module_groups, rule, group)

    def stage(self, stage: Stage) -> StageConfig:
        """The hyper-parameters of `stage`."""
        return getattr(self, stage.field_name)

    def stage_before(self, stage: Stage) -> Stage | None:
        """The stage whose weights `stage` has to begin with; None: it can begin with what is published."""
        return None


@dataclass(frozen=True)
class ActionModelConfig(ModelConfig):
    """Base of models that learn actions from demonstrations."""

    task: ClassVar[str] = "action"

    processor: ProcessorConfig = field(default_factory=ProcessorConfig)

    @property
    def chunk_size(self) -> int:
        """Actions that the model predicts at once."""
        return 1

    @property
    def state_dim(self) -> int:
        """Values of the robot's state that the model takes, where it takes any (`processor.proprio`)."""
        published: int = getattr(self, "proprio_dim", self.processor.proprio_dim)  # some models have it for themselves
        return published
