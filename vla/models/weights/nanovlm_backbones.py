"""Weights of Hugging Face's SigLIP and LLaMA models into nanoVLM's backbones."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.models.nanovlm import NanoLMConfig
from vla.errors import UserError
from vla.models.backbones.hf_models import CAUSAL, load_llm
from vla.models.weights.files import read_state_dict
from vla.models.weights.report import match_weights
from vla.models.weights_source import download_file, reading_weights

_TOWER = "vision_model."
_SIGLIP_NAMES = {
    "embeddings.patch_embedding.": "patch_embedding.conv.", "post_layernorm.": "layer_norm.",
    "encoder.layers.": "blocks.", ".layer_norm1.": ".ln1.", ".layer_norm2.": ".ln2.", ".self_attn.": ".attn.",
    "embeddings.position_embedding.weight": "patch_embedding.position_embedding",
}  # fmt: skip
_LLAMA_NAMES = {
    "model.embed_tokens.": "token_embedding.", "model.layers.": "blocks.", "model.norm.": "norm.", "lm_head.": "head.",
    ".self_attn.o_proj.": ".attn.out_proj.", ".self_attn.": ".attn.", ".input_layernorm.": ".norm1.",
    ".post_attention_layernorm.": ".norm2.",
}  # fmt: skip
_LLAMA_SIZES = {
    "vocab_size": "vocab_size", "hidden_size": "hidden_size", "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers", "num_heads": "num_attention_heads", "num_kv_heads": "num_key_value_heads",
    "rms_norm_eps": "rms_norm_eps", "tie_embeddings": "tie_word_embeddings",
}  # fmt: skip
_LLAMA_KINDS = ("llama", "mistral")  # others have factors of their own, or layers without positions
LLM_FIELD = "model.llm_backbone"


def load_siglip(backbone: nn.Module, source: Path | str, field: str) -> None:
    """
    Fill a `SigLIPBackbone` with the vision tower of a SigLIP or SigLIP 2 (fixed resolution) model.

    Args:
        backbone: To be filled.
        source: Local file or folder, or Hugging Face id; text tower and pooling head are passed over.
        field: Configuration field that names it, for errors.

    Raises:
        UserError: It can't be read, or is of other sizes.
    """
    with reading_weights(field):
        stored = read_state_dict(download_file(str(source)))
        if any(key.startswith(_TOWER) for key in stored):  # transformers 5 saves a tower by itself without the prefix
            stored = {key: value for key, value in stored.items() if key.startswith(_TOWER)}
        tensors = siglip_tensors(stored)
    _fill(backbone, tensors, field, "pass the sizes of these weights, or weights of these sizes")


def siglip_tensors(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of Hugging Face's `vision_model.*` under nanoVLM's names."""
    tensors: dict[str, Tensor] = {}
    for key, value in published.items():
        key = key.removeprefix(_TOWER)
        name = _rename(key, _SIGLIP_NAMES)
        if key.startswith("head.") or name.endswith("position_ids"):
            continue
        tensors[name] = value
    for name in [name for name in tensors if ".attn.q_proj." in name]:
        parts = [tensors.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        tensors[name.replace("q_proj", "qkv_proj")] = torch.cat(parts)
    position = "patch_embedding.position_embedding"
    if position in tensors:
        tensors[position] = tensors[position][None]
    return tensors


def load_llama(decoder: Any, source: str) -> None:
    """
    Fill the first rows of a `NanoLM`'s token table, and all of the rest, with a LLaMA-family model.

    Args:
        decoder: A `NanoLM`; rows that it has besides keep their values.
        source: Folder, `.gguf` file or Hugging Face id.

    Raises:
        UserError: It can't be read, or is of other sizes.
    """
    model = load_llm(source, CAUSAL, f"{LLM_FIELD}.weights")
    _check_kind(model.config)
    _check_sizes(decoder.config, model.config)
    tensors = {_rename(key, _LLAMA_NAMES): value for key, value in model.state_dict().items()}
    for name in ("token_embedding.weight", "head.weight"):
        table = decoder.get_parameter(name).detach().clone()
        table[: len(tensors[name])] = tensors[name]
        tensors[name] = table
    _fill(decoder, tensors, f"{LLM_FIELD}.weights", "they are not of the LLaMA family")


def _check_kind(found: Any) -> None:
    """Raise UserError, one line, for models that compute something else from weights of the same names and shapes."""
    kind = found.model_type
    if kind not in _LLAMA_KINDS or getattr(found, "sliding_window", None):
        known = " or ".join(_LLAMA_KINDS)
        raise UserError(f"{LLM_FIELD}.weights: must be of kind {known} without a sliding window, got '{kind}'")
    if found.hidden_act != "silu":
        raise UserError(f"{LLM_FIELD}.weights: must have the activation silu, got '{found.hidden_act}'")


def _check_sizes(config: NanoLMConfig, found: Any) -> None:
    """Raise UserError, one line with all fields to pass, unless the weights are of the configured sizes."""
    theirs = {ours: getattr(found, name) for ours, name in _LLAMA_SIZES.items()}
    rope = getattr(found, "rope_parameters", None) or {}
    theirs["rope_theta"] = rope.get("rope_theta", getattr(found, "rope_theta", None)) or config.rope_theta
    other = {
        name: value for name, value in theirs.items() if not math.isclose(getattr(config, name), value, rel_tol=1e-6)
    }
    if other:
        flags = " ".join(f"--{LLM_FIELD}.{name} {str(value).lower()}" for name, value in other.items())
        raise UserError(f"{LLM_FIELD}.weights: are of other sizes than configured; for these weights pass {flags}")
    kind = rope.get("rope_type", "default")
    if kind != "default":
        raise UserError(f"{LLM_FIELD}.weights: rotary positions of kind '{kind}' are not known here")


def _fill(module: nn.Module, tensors: dict[str, Tensor], field: str, advice: str) -> None:
    fitting, report = match_weights(module.state_dict(), tensors)
    if not report.exact:
        raise UserError(f"{field}: {report.describe()}; {advice}")
    module.load_state_dict(fitting)


def _rename(key: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        key = key.replace(old, new)
    return key
