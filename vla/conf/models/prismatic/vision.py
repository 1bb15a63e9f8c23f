"""Published experiments on what the language model sees: which vision backbone, and how images become square."""

from dataclasses import field
from typing import ClassVar

from vla.conf.models.base import LanguageProcessorConfig
from vla.conf.models.prismatic.base import Release, crop_resize, naive_resize
from vla.conf.models.prismatic.training import OneStage7BConfig
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.models.vision_backbones import (
    CLIPViTLConfig,
    DINOCLIPViTL336Config,
    DINOSigLIPViTSO224Config,
    DINOSigLIPViTSO384Config,
    DINOv2ViTLConfig,
    IN1KViTLConfig,
    SigLIPViTSO224Config,
    SigLIPViTSO384Config,
)
from vla.conf.registry import variant


@variant()
class IN1K224px7BConfig(OneStage7BConfig):
    """A ViT-L taught the classes of ImageNet."""

    model_id: ClassVar[str] = "in1k-224px+7b"
    release: ClassVar[Release | None] = Release(("IN1K ViT-L 224px",))
    vision_backbone: VisionBackboneConfig = field(default_factory=IN1KViTLConfig)


@variant()
class DINOv2224px7BConfig(OneStage7BConfig):
    """DINOv2."""

    model_id: ClassVar[str] = "dinov2-224px+7b"
    release: ClassVar[Release | None] = Release(("DINOv2 ViT-L 224px",))
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOv2ViTLConfig)


@variant()
class CLIP224px7BConfig(OneStage7BConfig):
    """CLIP at 224 pixels."""

    model_id: ClassVar[str] = "clip-224px+7b"
    release: ClassVar[Release | None] = Release(("CLIP ViT-L 224px",))
    vision_backbone: VisionBackboneConfig = field(default_factory=CLIPViTLConfig)


@variant()
class SigLIP224px7BConfig(OneStage7BConfig):
    """SigLIP at 224 pixels."""

    model_id: ClassVar[str] = "siglip-224px+7b"
    release: ClassVar[Release | None] = Release(("SigLIP ViT-SO 224px",))
    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPViTSO224Config)


@variant()
class CLIP336pxCrop7BConfig(OneStage7BConfig):
    """CLIP at 336 pixels, images cropped."""

    model_id: ClassVar[str] = "clip-336px-resize-crop+7b"
    release: ClassVar[Release | None] = Release(("CLIP ViT-L 336px (Resize Crop)",))
    processor: LanguageProcessorConfig = field(default_factory=crop_resize)


@variant()
class CLIP336pxNaive7BConfig(OneStage7BConfig):
    """CLIP at 336 pixels, images squeezed."""

    model_id: ClassVar[str] = "clip-336px-resize-naive+7b"
    release: ClassVar[Release | None] = Release(("CLIP ViT-L 336px (Naive Resize)", "CLIP 336px (Naive Resize)"))
    processor: LanguageProcessorConfig = field(default_factory=naive_resize)


@variant()
class SigLIP384pxLetterbox7BConfig(OneStage7BConfig):
    """SigLIP at 384 pixels, images with a border."""

    model_id: ClassVar[str] = "siglip-384px-letterbox+7b"
    release: ClassVar[Release | None] = Release(("SigLIP ViT-SO 384px (Letterbox)", "SigLIP ViT-SO 384px"))
    vision_backbone: VisionBackboneConfig = field(default_factory=SigLIPViTSO384Config)


@variant()
class SigLIP384pxCrop7BConfig(SigLIP384pxLetterbox7BConfig):
    """SigLIP at 384 pixels, images cropped."""

    model_id: ClassVar[str] = "siglip-384px-resize-crop+7b"
    release: ClassVar[Release | None] = Release(("SigLIP ViT-SO 384px (Resize Crop)",))
    processor: LanguageProcessorConfig = field(default_factory=crop_resize)


@variant()
class SigLIP384pxNaive7BConfig(SigLIP384pxLetterbox7BConfig):
    """SigLIP at 384 pixels, images squeezed."""

    model_id: ClassVar[str] = "siglip-384px-resize-naive+7b"
    release: ClassVar[Release | None] = Release(("SigLIP ViT-SO 384px (Naive Resize)", "SigLIP 384px (Naive Resize)"))
    processor: LanguageProcessorConfig = field(default_factory=naive_resize)


@variant()
class DINOCLIP336pxLetterbox7BConfig(OneStage7BConfig):
    """DINOv2 and CLIP at 336 pixels, images with a border."""

    model_id: ClassVar[str] = "dinoclip-336px-letterbox+7b"
    release: ClassVar[Release | None] = Release(("DINOv2 + CLIP 336px (Letterbox)",))
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOCLIPViTL336Config)
    arch_specifier: str = "no-align+fused-gelu-mlp"


@variant()
class DINOCLIP336pxNaive7BConfig(DINOCLIP336pxLetterbox7BConfig):
    """DINOv2 and CLIP at 336 pixels, images squeezed."""

    model_id: ClassVar[str] = "dinoclip-336px-resize-naive+7b"
    release: ClassVar[Release | None] = Release(("DINOv2 + CLIP 336px (Naive Resize)",))
    processor: LanguageProcessorConfig = field(default_factory=naive_resize)


_VIT_L = "DINOv2 ViT-L/14 + SigLIP ViT-L/14 @ 384px"  # as published; it is SigLIP's ViT-SO


@variant()
class DINOSigLIP384pxLetterbox7BConfig(OneStage7BConfig):
    """DINOv2 and SigLIP at 384 pixels, images with a border."""

    model_id: ClassVar[str] = "dinosiglip-384px-letterbox+7b"
    release: ClassVar[Release | None] = Release(("DINOv2 + SigLIP 384px (Letterbox)",), visual=_VIT_L)
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTSO384Config)
    arch_specifier: str = "no-align+fused-gelu-mlp"


@variant()
class DINOSigLIP384pxNaive7BConfig(DINOSigLIP384pxLetterbox7BConfig):
    """DINOv2 and SigLIP at 384 pixels, images squeezed."""

    model_id: ClassVar[str] = "dinosiglip-384px-resize-naive+7b"
    release: ClassVar[Release | None] = Release(("DINOv2 + SigLIP 384px (Naive Resize)",), visual=_VIT_L)
    processor: LanguageProcessorConfig = field(default_factory=naive_resize)


@variant()
class DINOSigLIP224pxNaive7BConfig(DINOSigLIP384pxNaive7BConfig):
    """DINOv2 and SigLIP at 224 pixels, images squeezed; of OpenVLA's repository, without released weights."""

    model_id: ClassVar[str] = "dinosiglip-224px-resize-naive+7b"
    release: ClassVar[Release | None] = None
    vision_backbone: VisionBackboneConfig = field(default_factory=DINOSigLIPViTSO224Config)
