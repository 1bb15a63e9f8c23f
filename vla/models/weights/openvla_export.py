"""Writing folders in OpenVLA's Hugging Face layout, which the published code loads."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vla.models.vlas.openvla import OpenVLA
from vla.models.vlas.openvla_oft import OpenVLAOFT
from vla.models.weights.openvla import CONFIG, INDEX, published_name
from vla.models.weights.openvla_oft import save_component, save_oft

_CODE = "openvla/openvla-7b--"  # the published classes, which `trust_remote_code` fetches
_SHARD_BYTES = 5 * 10**9


def write_openvla(
    model: OpenVLA, folder: Path, statistics: Mapping[str, Any], *, dtype: torch.dtype = torch.bfloat16,
    step: int = 0, shard_bytes: int = _SHARD_BYTES,
) -> Path:  # fmt: skip
    """
    Write a folder that the published code loads; weights that are in it before are replaced.

    (A vision backbone with FiLM is written whole and plain. The published loader expects the names of the adapters that
    it was trained with, too; this toolkit reads both.)

    Args:
        model: Whole, on any device; only one shard of it is copied at a time.
        folder: Is made.
        statistics: Content of `dataset_statistics.json`.
        dtype: Of the tensors.
        step: Of the training, for the names of OFT's files.
        shard_bytes: No file of tensors is larger, unless a tensor is.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model*.safetensors*"):
        old.unlink()
    values = to_published(model, statistics, dtype)
    _write_json(folder / CONFIG, values)
    _write_json(folder / "preprocessor_config.json", _preprocessor(model))
    _write_json(folder / "processor_config.json", {"processor_class": "PrismaticProcessor"})
    _write_json(folder / "dataset_statistics.json", statistics)
    model.llm_backbone.tokenizer.save_pretrained(folder)
    _write_tensors(model, folder, dtype, shard_bytes)
    if isinstance(model, OpenVLAOFT):
        save_oft(model.action_head, folder, step, dtype)
        if model.config.film:
            towers = list(model.vision_backbone.towers)
            tensors = {
                published_name(name, towers): value.detach().to("cpu", dtype)
                for name, value in model.state_dict().items()
                if name.startswith("vision_backbone.")
            }
            save_component(tensors, folder, "vision_backbone", step)
    return folder


def to_published(model: OpenVLA, statistics: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Content of `config.json`."""
    config, llm = model.config, model.llm_backbone
    towers = config.vision_backbone.towers
    text = llm.llm.config.to_dict()
    names = (
        "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
    )  # fmt: skip
    return {
        "architectures": ["OpenVLAForActionPrediction"],
        "auto_map": {
            "AutoConfig": f"{_CODE}configuration_prismatic.OpenVLAConfig",
            "AutoModelForVision2Seq": f"{_CODE}modeling_prismatic.OpenVLAForActionPrediction",
        },
        "model_type": "openvla",
        "arch_specifier": f"no-align+{config.projector_type}",
        "vision_backbone_id": type(config.vision_backbone).backbone_id,
        "llm_backbone_id": type(config.llm_backbone).llm_id,
        "hf_llm_id": type(config.llm_backbone)().weights,
        "image_resize_strategy": "resize-naive",
        "image_sizes": [config.vision_backbone.image_size] * len(towers),
        "timm_model_ids": [tower.timm_id for tower in towers],
        "timm_override_act_layers": ["quick_gelu" if tower.quick_gelu else None for tower in towers],
        "use_fused_vision_backbone": len(towers) > 1,
        "llm_max_length": 2048,
        "n_action_bins": config.action_bins,
        "norm_stats": dict(statistics),
        "output_projector_states": False,
        "pad_to_multiple_of": llm.vocab_size - model.action_tokens.vocab_size,
        "pad_token_id": llm.tokenizer.pad_token_id,
        "text_config": {name: text[name] for name in names if name in text} | {"rope_theta": _rope_theta(text)},
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _rope_theta(text: Mapping[str, Any]) -> float:
    return text.get("rope_theta") or (text.get("rope_parameters") or {}).get("rope_theta", 10000.0)


def _preprocessor(model: OpenVLA) -> dict[str, Any]:
    transforms = model.config.vision_backbone.transforms.values()
    size = model.config.vision_backbone.image_size
    return {
        "auto_map": {
            "AutoImageProcessor": f"{_CODE}processing_prismatic.PrismaticImageProcessor",
            "AutoProcessor": f"{_CODE}processing_prismatic.PrismaticProcessor",
        },
        "image_processor_type": "PrismaticImageProcessor",
        "processor_class": "PrismaticProcessor",
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, size, size] for _ in transforms],
        "interpolations": ["bicubic" for _ in transforms],
        "means": [list(transform.mean) for transform in transforms],
        "stds": [list(transform.std) for transform in transforms],
        "use_fused_vision_backbone": len(transforms) > 1,
    }


def published_tensors(model: OpenVLA) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a folder, one after the other, by their published names; FiLM is not among them."""
    towers = list(model.vision_backbone.towers)
    for name, value in model.state_dict().items():
        is_film = re.search(r"\.blocks\.\d+\.(scale|shift)\.", name)
        if name.partition(".")[0] in ("vision_backbone", "projector", "llm_backbone") and not is_film:
            yield published_name(re.sub(r"(\.blocks\.\d+)\.block\.", r"\1.", name), towers), value


def _write_tensors(model: OpenVLA, folder: Path, dtype: torch.dtype, shard_bytes: int) -> None:
    sizes = {name: value.numel() * dtype.itemsize for name, value in published_tensors(model)}
    shards: list[list[str]] = [[]]
    room = shard_bytes
    for name, size in sizes.items():
        if size > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    if len(files) == 1:
        files = ["model.safetensors"]
    tensors = dict(published_tensors(model))
    for names, file in zip(shards, files, strict=True):
        content = {name: tensors[name].detach().to("cpu", dtype).contiguous() for name in names}
        save_file(content, folder / file, {"format": "pt"})
    if len(files) > 1:
        where = {name: file for names, file in zip(shards, files, strict=True) for name in names}
        _write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where})


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
