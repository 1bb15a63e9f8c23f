"""nanoVLM's published `config.json` as a configuration of this toolkit, and back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vla.conf.models.nanovlm import MAX_GRID, NanoLMConfig, NanoVLMConfig, VQAProcessorConfig
from vla.conf.models.siglip import SIGLIP, SigLIPConfig

IMAGE_TOKEN, GLOBAL_TOKEN = "<|image|>", "<|global_image|>"
_CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_VISION = {
    "vit_hidden_dim": "hidden_size", "vit_inter_dim": "intermediate_size", "vit_patch_size": "patch_size",
    "vit_img_size": "image_size", "vit_n_heads": "num_heads", "vit_dropout": "dropout", "vit_n_blocks": "num_layers",
    "vit_ln_eps": "norm_eps", "vit_cls_flag": "class_token",
}  # fmt: skip
_LANGUAGE = {
    "lm_hidden_dim": "hidden_size", "lm_inter_dim": "intermediate_size", "lm_rms_eps": "rms_norm_eps",
    "lm_re_base": "rope_theta", "lm_max_position_embeddings": "max_position", "lm_base_vocab_size": "vocab_size",
    "lm_n_heads": "num_heads", "lm_n_kv_heads": "num_kv_heads", "lm_dropout": "dropout", "lm_n_blocks": "num_layers",
    "lm_attn_scaling": "rope_scale", "lm_tie_weights": "tie_embeddings", "lm_model_type": "weights",
    "lm_tokenizer": "tokenizer",
}  # fmt: skip


def extra_tokens(image_tokens: str) -> dict[str, str]:
    """The tokens that a model adds to its tokenizer, in order, by their published names; see `VQAProcessorConfig`."""
    if image_tokens == "none":
        return {}
    if image_tokens == "single":
        return {"image_token": IMAGE_TOKEN}
    places = [(row, column) for row in range(1, MAX_GRID + 1) for column in range(1, MAX_GRID + 1)]
    tokens = {f"r{row}c{column}": place_token(row, column) for row, column in places}
    whole = {"global_image_token": GLOBAL_TOKEN} if image_tokens == "global-grid" else {}
    return {"image_token": IMAGE_TOKEN} | whole | tokens


def place_token(row: int, column: int) -> str:
    """The text of the token that announces a tile; rows and columns count from 1."""
    return f"<row_{row}_col_{column}>"


def from_published(published: Mapping[str, Any], base: NanoVLMConfig | None = None) -> NanoVLMConfig:
    """
    The configuration that a published folder's `config.json` means.

    Keys that are not known are passed over (older ones have some); those that are missing have the values of `base`.

    Args:
        published: Its content.
        base: What it is a variant of; the last published default.

    Raises:
        ValueError: A value is out of range.
    """
    base = base or NanoVLMConfig()
    vision = _take(published, _VISION)
    if "vit_model_type" in published:
        vision["weights"] = {SIGLIP: published["vit_model_type"]} if published["vit_model_type"] else {}
    language = _take(published, _LANGUAGE)
    language |= {name: language[name] or None for name in ("weights", "tokenizer") if name in language}
    rows = published.get("lm_vocab_size")
    if rows is not None:
        language.setdefault("vocab_size", rows - published.get("extra_token_amount", 0))
        language["num_extra_tokens"] = rows - language["vocab_size"]
    config = replace(
        base, vision_backbone=_sizes(SigLIPConfig, base.vision_backbone, vision),
        llm_backbone=_sizes(NanoLMConfig, base.llm_backbone, language),
        pixel_shuffle=published.get("mp_pixel_shuffle_factor", base.pixel_shuffle),
        processor=_processor(published, base, vision.get("image_size")),
    )  # fmt: skip
    if "lm_max_length" not in published:
        return config
    length = published["lm_max_length"] + _tokens_in_front(config)
    return replace(config, processor=replace(config.processor, max_length=length))


def _take(published: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: published[theirs] for theirs, ours in names.items() if theirs in published}


def _sizes(kind: Any, base: Any, values: dict[str, Any]) -> Any:
    """`values` in place of those of `base`, or of the defaults of `kind` where `base` is of another."""
    return replace(base, **values) if isinstance(base, kind) else kind(**values)


def _processor(published: Mapping[str, Any], base: NanoVLMConfig, image_size: int | None) -> VQAProcessorConfig:
    names = published.get("vlm_extra_tokens")
    tokens = base.processor.image_tokens
    if names is not None:
        tokens = _kind_of_tokens(names)
    elif "mp_image_token_length" not in published:
        tokens = "none"  # v0.1 knew no tokens for images
    side = published.get("max_img_size", base.processor.max_image_side)
    if tokens in ("single", "none") and image_size is not None:
        side = image_size
    return VQAProcessorConfig(
        max_length=base.processor.max_length,
        max_image_side=side,
        resize_to_max=published.get("resize_to_max_side_len", base.processor.resize_to_max),
        image_tokens=tokens,
        prompt="question-answer" if tokens == "none" else "chatml",
    )


def _tokens_in_front(config: NanoVLMConfig) -> int:
    """Places of a picture that nanoVLM's `lm_max_length` doesn't count: those of v0.1, which has no token for them."""
    return config.tokens_per_tile if config.processor.image_tokens == "none" else 0


def _kind_of_tokens(names: Mapping[str, str]) -> str:
    if "global_image_token" in names:
        return "global-grid"
    if "r1c1" in names:
        return "grid"
    return "single" if "image_token" in names else "none"


def to_published(config: NanoVLMConfig) -> dict[str, Any]:
    """
    The content of a published folder's `config.json`, every key in the published order.

    Raises:
        ValueError: The vision backbone is none that nanoVLM knows.
    """
    vision, language, processor = config.vision_backbone, config.llm_backbone, config.processor
    if not isinstance(vision, SigLIPConfig):
        raise ValueError(f"vision_backbone: nanoVLM's format has no place for {type(vision).backbone_id!r}")
    names = {value: key for key, value in _VISION.items()}
    head = {names[field]: getattr(vision, field) for field in _VISION.values()}
    values = {theirs: getattr(language, ours) for theirs, ours in _LANGUAGE.items()}
    return {
        **head,
        "vit_model_type": vision.weights.get(SIGLIP, ""),
        **{key: values[key] for key in list(_LANGUAGE)[:3]},
        "lm_re_base": _whole(language.rope_theta),
        "lm_max_position_embeddings": language.max_position,
        "lm_base_vocab_size": language.vocab_size,
        "extra_token_amount": language.num_extra_tokens,
        "lm_vocab_size": language.vocab_size + language.num_extra_tokens,
        "lm_n_heads": language.num_heads,
        "lm_n_kv_heads": language.num_kv_heads,
        "lm_dropout": language.dropout,
        "lm_n_blocks": language.num_layers,
        "lm_attn_scaling": language.rope_scale,
        "lm_max_length": processor.max_length - _tokens_in_front(config),
        "lm_use_tokens": False,
        "lm_tie_weights": language.tie_embeddings,
        "lm_model_type": language.weights or "",
        "lm_tokenizer": language.tokenizer or language.weights or "",
        "lm_chat_template": _CHATML,
        "mp_pixel_shuffle_factor": config.pixel_shuffle,
        "mp_image_token_length": config.tokens_per_tile,
        "max_img_size": processor.max_image_side,
        "resize_to_max_side_len": processor.resize_to_max,
        "vlm_extra_tokens": extra_tokens(processor.image_tokens),
        "vlm_load_backbone_weights": True,
        "vlm_checkpoint_path": "checkpoints",
        "hf_repo_name": "nanoVLM",
    }


def _whole(number: float) -> float | int:
    return int(number) if float(number).is_integer() else number
