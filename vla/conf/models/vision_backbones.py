"""`VisionBackboneRegistry`: the vision backbones that come with the toolkit."""

from dataclasses import dataclass, field, replace
from enum import Enum, unique
from typing import Any, ClassVar

from vla.conf.models.components import EfficientNetConfig
from vla.conf.models.vision import PixelTransform, Tower, VisionBackboneConfig
from vla.conf.registry import register_enum, variant

_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))  # mean, standard deviation
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

CLIP_B = Tower("clip", "vit_base_patch16_clip_224.openai", 768, 12, 16, 1, *_OPENAI, quick_gelu=True)
CLIP_L = Tower("clip", "vit_large_patch14_clip_224.openai", 1024, 24, 14, 1, *_OPENAI, quick_gelu=True)
CLIP_L_336 = replace(CLIP_L, timm_id="vit_large_patch14_clip_336.openai")
# Published without a tag, which meant ".webli" then; by now timm takes SigLIP 2 where there is none.
SIGLIP_B_224 = Tower("siglip", "vit_base_patch16_siglip_224.webli", 768, 12, 16, 0, *_HALF)
SIGLIP_B_256 = replace(SIGLIP_B_224, timm_id="vit_base_patch16_siglip_256.webli")
SIGLIP_B_384 = replace(SIGLIP_B_224, timm_id="vit_base_patch16_siglip_384.webli")
SIGLIP_SO_224 = Tower("siglip", "vit_so400m_patch14_siglip_224.webli", 1152, 27, 14, 0, *_HALF)
SIGLIP_SO_384 = replace(SIGLIP_SO_224, timm_id="vit_so400m_patch14_siglip_384.webli")
DINOV2_L = Tower("dino", "vit_large_patch14_reg4_dinov2.lvd142m", 1024, 24, 14, 5, *_IMAGENET)
IN1K_L = Tower("in1k", "vit_large_patch16_224.augreg_in21k_ft_in1k", 1024, 24, 16, 1, *_HALF)


@variant()
class TimmBackboneConfig(VisionBackboneConfig):
    """One or two of timm's vision transformers, with the weights that timm publishes."""

    target: ClassVar[str] = "vla.models.backbones.timm_vit:TimmBackbone"


@variant()
class CLIPViTBConfig(TimmBackboneConfig):
    """CLIP ViT-B/16 of OpenAI at 224 pixels."""

    backbone_id: ClassVar[str] = "clip-vit-b"
    label: ClassVar[str] = "CLIP ViT-B/16"
    towers: ClassVar[tuple[Tower, ...]] = (CLIP_B,)


@variant()
class CLIPViTLConfig(TimmBackboneConfig):
    """CLIP ViT-L/14 of OpenAI at 224 pixels."""

    backbone_id: ClassVar[str] = "clip-vit-l"
    label: ClassVar[str] = "CLIP ViT-L/14"
    towers: ClassVar[tuple[Tower, ...]] = (CLIP_L,)


@variant()
class CLIPViTL336Config(CLIPViTLConfig):
    """CLIP ViT-L/14 of OpenAI at 336 pixels."""

    backbone_id: ClassVar[str] = "clip-vit-l-336px"
    towers: ClassVar[tuple[Tower, ...]] = (CLIP_L_336,)

    image_size: int = 336


@variant()
class SigLIPViTB224Config(TimmBackboneConfig):
    """SigLIP ViT-B/16 at 224 pixels."""

    backbone_id: ClassVar[str] = "siglip-vit-b16-224px"
    label: ClassVar[str] = "SigLIP ViT-B/16"
    towers: ClassVar[tuple[Tower, ...]] = (SIGLIP_B_224,)


@variant()
class SigLIPViTB256Config(SigLIPViTB224Config):
    """SigLIP ViT-B/16 at 256 pixels."""

    backbone_id: ClassVar[str] = "siglip-vit-b16-256px"
    towers: ClassVar[tuple[Tower, ...]] = (SIGLIP_B_256,)

    image_size: int = 256


@variant()
class SigLIPViTB384Config(SigLIPViTB224Config):
    """SigLIP ViT-B/16 at 384 pixels."""

    backbone_id: ClassVar[str] = "siglip-vit-b16-384px"
    towers: ClassVar[tuple[Tower, ...]] = (SIGLIP_B_384,)

    image_size: int = 384


@variant()
class SigLIPViTSO224Config(TimmBackboneConfig):
    """SigLIP ViT-SO400M/14 at 224 pixels."""

    backbone_id: ClassVar[str] = "siglip-vit-so400m"
    label: ClassVar[str] = "SigLIP ViT-SO/14"
    towers: ClassVar[tuple[Tower, ...]] = (SIGLIP_SO_224,)


@variant()
class SigLIPViTSO384Config(SigLIPViTSO224Config):
    """SigLIP ViT-SO400M/14 at 384 pixels."""

    backbone_id: ClassVar[str] = "siglip-vit-so400m-384px"
    towers: ClassVar[tuple[Tower, ...]] = (SIGLIP_SO_384,)

    image_size: int = 384


@variant()
class DINOv2ViTLConfig(TimmBackboneConfig):
    """DINOv2 ViT-L/14 with registers at 224 pixels."""

    backbone_id: ClassVar[str] = "dinov2-vit-l"
    label: ClassVar[str] = "DINOv2 ViT-L/14"
    towers: ClassVar[tuple[Tower, ...]] = (DINOV2_L,)


@variant()
class IN1KViTLConfig(TimmBackboneConfig):
    """ViT-L/16 taught the classes of ImageNet-21K, then of ImageNet-1K, at 224 pixels."""

    backbone_id: ClassVar[str] = "in1k-vit-l"
    label: ClassVar[str] = "ImageNet-21K+1K ViT-L/16"
    towers: ClassVar[tuple[Tower, ...]] = (IN1K_L,)


@variant()
class DINOCLIPViTL336Config(TimmBackboneConfig):
    """DINOv2 and CLIP ViT-L/14 side by side at 336 pixels."""

    backbone_id: ClassVar[str] = "dinoclip-vit-l-336px"
    label: ClassVar[str] = "DINOv2 ViT-L/14 + CLIP ViT-L/14"
    # Beside DINOv2, CLIP ran with the plain GELU that it was not trained with, and the released projectors expect it.
    towers: ClassVar[tuple[Tower, ...]] = (DINOV2_L, replace(CLIP_L_336, quick_gelu=False))

    image_size: int = 336


@variant()
class DINOSigLIPViTSO224Config(TimmBackboneConfig):
    """DINOv2 ViT-L/14 and SigLIP ViT-SO400M/14 side by side at 224 pixels."""

    backbone_id: ClassVar[str] = "dinosiglip-vit-so-224px"
    label: ClassVar[str] = "DINOv2 ViT-L/14 + SigLIP ViT-SO/14"
    towers: ClassVar[tuple[Tower, ...]] = (DINOV2_L, SIGLIP_SO_224)


@variant()
class DINOSigLIPViTSO384Config(DINOSigLIPViTSO224Config):
    """DINOv2 ViT-L/14 and SigLIP ViT-SO400M/14 side by side at 384 pixels."""

    backbone_id: ClassVar[str] = "dinosiglip-vit-so-384px"
    towers: ClassVar[tuple[Tower, ...]] = (DINOV2_L, SIGLIP_SO_384)

    image_size: int = 384


@dataclass(frozen=True)
class EfficientNetLite0Config(VisionBackboneConfig):
    """EfficientNet-Lite0: maps of some of its stages as patch tokens; small enough for a CPU."""

    backbone_id: ClassVar[str] = "efficientnet-lite0"
    target: ClassVar[str] = "vla.models.backbones.efficientnet:EfficientNetVision"
    label: ClassVar[str] = "EfficientNet-Lite0"

    weights: dict[str, str] = field(default_factory=lambda: {"efficientnet": EfficientNetConfig().weights or ""})
    stages: tuple[int, ...] = (2, 4)  # of 0 to 6; the last gives the grid, finer ones are folded into its places

    def __post_init__(self) -> None:
        super().__post_init__()
        self.network  # noqa: B018 - checks the stages

    @property
    def network(self) -> EfficientNetConfig:
        """The network's own configuration."""
        return EfficientNetConfig(self.weights.get("efficientnet"), self.stages)

    @property
    def embed_dim(self) -> int:
        """See the base class."""
        return self.network.feature_dim

    @property
    def patch_size(self) -> int:
        """See the base class."""
        return self.network.patch_size

    @property
    def transforms(self) -> dict[str, PixelTransform]:
        """See the base class; the network was trained on [-1, 1]."""
        return {"efficientnet": PixelTransform(self.image_size, *_HALF)}


@variant()
class SigLIPViTTinyConfig(TimmBackboneConfig):
    """SigLIP's architecture with a few thousand parameters, at 28 pixels; for tests."""

    backbone_id: ClassVar[str] = "siglip-vit-tiny"
    label: ClassVar[str] = "SigLIP, tiny"
    towers: ClassVar[tuple[Tower, ...]] = (replace(SIGLIP_SO_224, embed_dim=32, depth=4),)

    image_size: int = 28

    def tower_options(self, tower: Tower) -> dict[str, Any]:
        """See the base class."""
        return {"embed_dim": tower.embed_dim, "depth": tower.depth, "num_heads": 4, "mlp_ratio": 2.0}


@variant()
class DINOSigLIPViTTinyConfig(SigLIPViTTinyConfig):
    """DINOv2's and SigLIP's architectures side by side with a few thousand parameters, at 28 pixels; for tests."""

    backbone_id: ClassVar[str] = "dinosiglip-vit-tiny"
    label: ClassVar[str] = "DINOv2 + SigLIP, tiny"
    towers: ClassVar[tuple[Tower, ...]] = (
        replace(DINOV2_L, embed_dim=32, depth=3),
        replace(SIGLIP_SO_224, embed_dim=32, depth=4),
    )


@unique
class VisionBackboneRegistry(Enum):
    """Vision backbones that come with the toolkit."""

    CLIP_VIT_B = CLIPViTBConfig
    CLIP_VIT_L = CLIPViTLConfig
    CLIP_VIT_L_336PX = CLIPViTL336Config
    SIGLIP_VIT_B16_224PX = SigLIPViTB224Config
    SIGLIP_VIT_B16_256PX = SigLIPViTB256Config
    SIGLIP_VIT_B16_384PX = SigLIPViTB384Config
    SIGLIP_VIT_SO400M = SigLIPViTSO224Config
    SIGLIP_VIT_SO400M_384PX = SigLIPViTSO384Config
    DINOV2_VIT_L = DINOv2ViTLConfig
    IN1K_VIT_L = IN1KViTLConfig
    DINOCLIP_VIT_L_336PX = DINOCLIPViTL336Config
    DINOSIGLIP_VIT_SO_224PX = DINOSigLIPViTSO224Config
    DINOSIGLIP_VIT_SO_384PX = DINOSigLIPViTSO384Config
    EFFICIENTNET_LITE0 = EfficientNetLite0Config
    SIGLIP_VIT_TINY = SigLIPViTTinyConfig
    DINOSIGLIP_VIT_TINY = DINOSigLIPViTTinyConfig

    @property
    def backbone_id(self) -> str:
        """The name that users write as the backbone's type."""
        return self.value.backbone_id


register_enum(VisionBackboneConfig, VisionBackboneRegistry, "backbone_id")
