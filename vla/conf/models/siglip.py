"""SigLIP as nanoVLM reads it: images as they are in [0, 1], the last block's tokens after the final norm."""

from dataclasses import dataclass, field
from enum import Enum, unique
from typing import ClassVar

from vla.conf.checks import require, require_fraction, require_positive
from vla.conf.models.vision import PixelTransform, VisionBackboneConfig
from vla.conf.registry import register_enum, variant

SIGLIP = "siglip"  # its key among pixel values and weights


@dataclass(frozen=True)
class SigLIPConfig(VisionBackboneConfig):
    """A SigLIP or SigLIP 2 vision transformer of fixed resolution."""

    backbone_id: ClassVar[str] = "siglip2-b16-512px"
    target: ClassVar[str] = "vla.models.backbones.siglip:SigLIPBackbone"
    label: ClassVar[str] = "SigLIP 2 ViT-B/16"

    image_size: int = 512
    weights: dict[str, str] = field(default_factory=lambda: {SIGLIP: "google/siglip2-base-patch16-512"})
    patch_size: int = 16  # pixels
    hidden_size: int = 768  # width
    intermediate_size: int = 3072  # width inside the MLP
    num_layers: int = 12  # blocks
    num_heads: int = 12  # attention heads
    norm_eps: float = 1e-6  # added to the variance in norms
    dropout: float = 0.0  # share of activations set to zero while training
    class_token: bool = False  # prepend a token, whose output stands for the whole image; no patches are given then

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "patch_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "norm_eps")
        require_fraction(self, "dropout")
        rule = f"must divide hidden_size ({self.hidden_size})"
        require("num_heads", self.hidden_size % self.num_heads == 0, rule, self.num_heads)

    @property
    def embed_dim(self) -> int:
        """See the base class."""
        return self.hidden_size

    @property
    def transforms(self) -> dict[str, PixelTransform]:
        """See the base class; pixels in [0, 1] are not normalised further."""
        return {SIGLIP: PixelTransform(self.image_size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}


@variant()
class SigLIP2Base256Config(SigLIPConfig):
    """SigLIP 2 ViT-B/16 at 256 pixels."""

    backbone_id: ClassVar[str] = "siglip2-b16-256px"

    image_size: int = 256
    weights: dict[str, str] = field(default_factory=lambda: {SIGLIP: "google/siglip2-base-patch16-256"})


@variant()
class SigLIPBase224Config(SigLIPConfig):
    """SigLIP ViT-B/16 at 224 pixels, without normalised images."""

    backbone_id: ClassVar[str] = "siglip-b16-224px"
    label: ClassVar[str] = "SigLIP ViT-B/16"

    image_size: int = 224
    weights: dict[str, str] = field(default_factory=lambda: {SIGLIP: "google/siglip-base-patch16-224"})


@variant()
class SigLIPTinyConfig(SigLIPConfig):
    """The same architecture with a few thousand parameters at random, at 32 pixels; for tests."""

    backbone_id: ClassVar[str] = "siglip-tiny"
    label: ClassVar[str] = "SigLIP, tiny"

    image_size: int = 32
    weights: dict[str, str] = field(default_factory=dict)
    patch_size: int = 8
    hidden_size: int = 48
    intermediate_size: int = 96
    num_layers: int = 2
    num_heads: int = 3


@unique
class SigLIPRegistry(Enum):
    """Vision backbones in the form that nanoVLM takes."""

    SIGLIP2_B16_512PX = SigLIPConfig
    SIGLIP2_B16_256PX = SigLIP2Base256Config
    SIGLIP_B16_224PX = SigLIPBase224Config
    SIGLIP_TINY = SigLIPTinyConfig


register_enum(VisionBackboneConfig, SigLIPRegistry, "backbone_id")
