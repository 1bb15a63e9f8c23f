"""Registered models without those that differ in data, weights or training only: what one shows holds for all."""

from dataclasses import fields, replace

from vla.conf.models import ModelConfig, ModelRegistry
from vla.conf.models.prismatic import VLMConfig


def architecture(config: ModelConfig, vision: bool = True) -> str:
    """What a model's modules and their shapes depend on; without `vision`, those of its language model alone."""
    if not isinstance(config, VLMConfig):
        return type(config).model_id
    language = replace(config.llm_backbone, weights=None, tokenizer=None)
    sizes = [getattr(language, item.name) for item in fields(language)]
    parts = [type(config).target, language.padded_vocab_size, *sizes]
    if vision:
        parts += [type(config.vision_backbone).backbone_id, config.projector_type]
    return repr(parts)


def distinct_models(vision: bool = True) -> list[str]:
    """Ids of the first registered model of every architecture."""
    found: dict[str, str] = {}
    for member in ModelRegistry:
        found.setdefault(architecture(member.value(), vision), member.model_id)
    return list(found.values())
