"""`ModelRegistry`: every model that comes with the toolkit."""

from enum import Enum, unique

from vla.conf.models.atlas import (
    EfficientNetSmolLM135MConfig,
    EfficientNetTinyConfig,
    VGGTLlama7BConfig,
    VGGTSmolLM135MConfig,
    VGGTTinyConfig,
)
from vla.conf.models.base import ActionModelConfig, ModelConfig, ProcessorConfig
from vla.conf.registry import register_enum

__all__ = ["ActionModelConfig", "ModelConfig", "ModelRegistry", "ProcessorConfig"]


@unique
class ModelRegistry(Enum):
    """Models that come with the toolkit; packages add more by the entry-point group `vla.models`."""

    VGGT_LLAMA_7B = VGGTLlama7BConfig
    VGGT_SMOLLM_135M = VGGTSmolLM135MConfig
    VGGT_TINY = VGGTTinyConfig
    EFFICIENTNET_SMOLLM_135M = EfficientNetSmolLM135MConfig
    EFFICIENTNET_TINY = EfficientNetTinyConfig

    @property
    def model_id(self) -> str:
        """The name that users write as the model's type."""
        return self.value.model_id


register_enum(ModelConfig, ModelRegistry, "model_id")
