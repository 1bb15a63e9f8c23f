"""`ModelRegistry`: every model that comes with the toolkit."""

from enum import Enum, unique

from vla.conf.models import nanovlm, openvla, openvla_oft, uniad
from vla.conf.models.atlas import (
    EfficientNetSmolLM135MConfig,
    EfficientNetTinyConfig,
    VGGTLlama7BConfig,
    VGGTSmolLM135MConfig,
    VGGTTinyConfig,
)
from vla.conf.models.base import ActionModelConfig, LanguageProcessorConfig, ModelConfig, ProcessorConfig
from vla.conf.models.prismatic import PrismaticConfig, prisms, small, training, vision
from vla.conf.registry import register_enum

__all__ = [
    "ActionModelConfig", "LanguageProcessorConfig", "ModelConfig", "ModelRegistry", "PrismaticConfig",
    "ProcessorConfig",
]  # fmt: skip


@unique
class ModelRegistry(Enum):
    """Models that come with the toolkit; packages add more by the entry-point group `vla.models`."""

    VGGT_LLAMA_7B = VGGTLlama7BConfig
    VGGT_SMOLLM_135M = VGGTSmolLM135MConfig
    VGGT_TINY = VGGTTinyConfig
    EFFICIENTNET_SMOLLM_135M = EfficientNetSmolLM135MConfig
    EFFICIENTNET_TINY = EfficientNetTinyConfig
    REPRODUCTION_7B = training.Reproduction7BConfig
    REPRODUCTION_13B = training.Reproduction13BConfig
    EXP_ONE_STAGE_7B = training.OneStage7BConfig
    EXP_ONE_STAGE_13B = training.OneStage13BConfig
    EXP_FULL_FT_MULTI_STAGE = training.FullFinetuneMultiStage7BConfig
    EXP_FULL_FT_ONE_STAGE = training.FullFinetuneOneStage7BConfig
    EXP_IN1K_224PX = vision.IN1K224px7BConfig
    EXP_DINOV2_224PX = vision.DINOv2224px7BConfig
    EXP_CLIP_224PX = vision.CLIP224px7BConfig
    EXP_SIGLIP_224PX = vision.SigLIP224px7BConfig
    EXP_CLIP_336PX_RESIZE_CROP = vision.CLIP336pxCrop7BConfig
    EXP_CLIP_336PX_RESIZE_NAIVE = vision.CLIP336pxNaive7BConfig
    EXP_SIGLIP_384PX_LETTERBOX = vision.SigLIP384pxLetterbox7BConfig
    EXP_SIGLIP_384PX_RESIZE_CROP = vision.SigLIP384pxCrop7BConfig
    EXP_SIGLIP_384PX_RESIZE_NAIVE = vision.SigLIP384pxNaive7BConfig
    EXP_DINOCLIP_336PX_LETTERBOX = vision.DINOCLIP336pxLetterbox7BConfig
    EXP_DINOCLIP_336PX_RESIZE_NAIVE = vision.DINOCLIP336pxNaive7BConfig
    EXP_DINOSIGLIP_384PX_LETTERBOX = vision.DINOSigLIP384pxLetterbox7BConfig
    EXP_DINOSIGLIP_384PX_RESIZE_NAIVE = vision.DINOSigLIP384pxNaive7BConfig
    EXP_LLAMA2_7B = training.Llama2_7BConfig
    EXP_LLAMA2_13B = training.Llama2_13BConfig
    EXT_EXP_LLAMA2_CHAT_7B = training.Llama2Chat7BConfig
    EXT_EXP_LLAMA2_CHAT_13B = training.Llama2Chat13BConfig
    EXT_EXP_MISTRAL_V1_7B = training.Mistral7BConfig
    EXT_EXP_MISTRAL_INSTRUCT_V1_7B = training.MistralInstruct7BConfig
    EXT_EXP_PHI_2_3B = training.Phi2_3BConfig
    EXP_VICUNA_NO_COTRAINING_7B = training.VicunaNoCotraining7BConfig
    EXP_LLAMA2_NO_COTRAINING_7B = training.Llama2NoCotraining7BConfig
    EXP_1P25_EPOCHS = training.Train125Epochs7BConfig
    EXP_1P5_EPOCHS = training.Train150Epochs7BConfig
    EXP_2_EPOCHS = training.Train2Epochs7BConfig
    EXP_3_EPOCHS = training.Train3Epochs7BConfig
    EXP_LLAVA_LVIS4V = training.LLaVALVIS4V7BConfig
    EXP_LLAVA_LRV = training.LLaVALRV7BConfig
    EXP_LLAVA_LVIS4V_LRV = training.LLaVALVIS4VLRV7BConfig
    PRISM_CLIP_CONTROLLED_7B = prisms.PrismCLIPControlled7BConfig
    PRISM_CLIP_CONTROLLED_13B = prisms.PrismCLIPControlled13BConfig
    PRISM_CLIP_7B = prisms.PrismCLIP7BConfig
    PRISM_CLIP_13B = prisms.PrismCLIP13BConfig
    PRISM_SIGLIP_CONTROLLED_7B = prisms.PrismSigLIPControlled7BConfig
    PRISM_SIGLIP_CONTROLLED_13B = prisms.PrismSigLIPControlled13BConfig
    PRISM_SIGLIP_7B = prisms.PrismSigLIP7BConfig
    PRISM_SIGLIP_13B = prisms.PrismSigLIP13BConfig
    PRISM_DINOSIGLIP_CONTROLLED_7B = prisms.PrismDINOSigLIPControlled7BConfig
    PRISM_DINOSIGLIP_CONTROLLED_13B = prisms.PrismDINOSigLIPControlled13BConfig
    PRISM_DINOSIGLIP_7B = prisms.PrismDINOSigLIP7BConfig
    PRISM_DINOSIGLIP_13B = prisms.PrismDINOSigLIP13BConfig
    OPT_DINOSIGLIP_224PX_RESIZE_NAIVE = vision.DINOSigLIP224pxNaive7BConfig
    PRISM_DINOSIGLIP_224PX_CONTROLLED_7B = prisms.PrismDINOSigLIP224pxControlled7BConfig
    PRISM_DINOSIGLIP_224PX_7B = prisms.PrismDINOSigLIP224px7BConfig
    EFFICIENTNET_SMOLLM_VLM_135M = small.EfficientNetSmolLMVLM135MConfig
    PRISM_TINY = small.PrismTinyConfig
    PRISM_DINOSIGLIP_TINY = small.PrismDINOSigLIPTinyConfig
    OPENVLA_7B = openvla.OpenVLA7BConfig
    SIGLIP_224PX_MX_BRIDGE = openvla.SigLIPBridgeConfig
    DINOSIGLIP_224PX_MX_BRIDGE = openvla.DINOSigLIPBridgeConfig
    FREEZE_SIGLIP_224PX_MX_BRIDGE = openvla.SigLIPFrozenBridgeConfig
    SIGLIP_224PX_MX_OXE_MAGIC_SOUP = openvla.SigLIPMagicSoupConfig
    DINOSIGLIP_224PX_MX_OXE_MAGIC_SOUP_PLUS = openvla.DINOSigLIPMagicSoupPlusConfig
    SIGLIP_224PX_MX_TDROID_CARROT_IN_BOWL = openvla.SigLIPCarrotConfig
    SIGLIP_224PX_MX_TDROID_POUR_CORN_IN_POT = openvla.SigLIPCornConfig
    SIGLIP_224PX_ICY_MX_TDROID_CARROT_IN_BOWL = openvla.SigLIPFrozenCarrotConfig
    SIGLIP_224PX_LASTLAYER_MX_TDROID_CARROT_IN_BOWL = openvla.SigLIPLastLayerCarrotConfig
    SIGLIP_224PX_SANDWICH_MX_TDROID_CARROT_IN_BOWL = openvla.SigLIPSandwichCarrotConfig
    SIGLIP_224PX_MX_DROID_WIPE = openvla.SigLIPWipeConfig
    OPENVLA_TINY = openvla.OpenVLATinyConfig
    OPENVLA_OFT_7B = openvla_oft.OpenVLAOFT7BConfig
    OPENVLA_OFT_7B_ALOHA = openvla_oft.OpenVLAOFTAloha7BConfig
    OPENVLA_OFT_7B_BRIDGE = openvla_oft.OpenVLAOFTBridge7BConfig
    OPENVLA_OFT_TINY = openvla_oft.OpenVLAOFTTinyConfig
    NANOVLM_222M = nanovlm.NanoVLM222MConfig
    NANOVLM_230M = nanovlm.NanoVLM230MConfig
    NANOVLM_450M = nanovlm.NanoVLM450MConfig
    NANOVLM_460M = nanovlm.NanoVLM460MConfig
    NANOVLM_TINY = nanovlm.NanoVLMTinyConfig
    UNIAD_EFFICIENTNET_B4 = uniad.UniADEfficientNetB4Config
    UNIAD_EFFICIENTNET_LITE0 = uniad.UniADEfficientNetLite0Config
    UNIAD_TINY = uniad.UniADTinyConfig

    @property
    def model_id(self) -> str:
        """The name that users write as the model's type."""
        return self.value.model_id


register_enum(ModelConfig, ModelRegistry, "model_id")
