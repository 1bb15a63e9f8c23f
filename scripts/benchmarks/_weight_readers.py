"""Readers of checkpoints and weights that others give: valid files, and what a user's goes through."""

import io
import os
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _forged import Target, register, to_json
from _readers import example_processor

from vla.conf.models.nanovlm import NanoVLMTinyConfig
from vla.conf.models.nanovlm_published import to_published
from vla.conf.models.uniad import AnomalyProcessorConfig
from vla.data.anomaly.processor import AnomalyProcessor
from vla.data.materialize import load_processor
from vla.models.anomaly.published import read_published
from vla.models.weights.files import read_state_dict
from vla.models.weights.nanovlm import read_published_config
from vla.models.weights.openvla import open_openvla, shard_files
from vla.models.weights.prismatic import find_prismatic_run, read_prismatic
from vla.models.weights_source import reading_weights
from vla.tokenization import get_tokenizer
from vla.training.checkpoint_files import CheckpointWriter, read_tensors, verify_checkpoint

MARK = "executed"  # a folder that forged pickles would make, were they executed


class _Evil:
    """A pickle that leaves a mark when it is executed."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / MARK

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def _saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@register("processor.json")
def _processors(folder: Path) -> Target:
    valid = [
        kind.save(folder).read_bytes() for kind in (example_processor(), AnomalyProcessor(AnomalyProcessorConfig()))
    ]
    return Target(tuple(valid), "processor.json", lambda path: load_processor(path.parent))


def _checkpoint(folder: Path) -> Path:
    with CheckpointWriter(folder / "step-000001") as writer:
        writer.tensors("model/a.safetensors", {"x": torch.arange(64.0), "y": torch.zeros(3, dtype=torch.int64)})
        writer.commit({"global_step": 1, "groups": ["a"]})
    return folder / "step-000001"


@register("checkpoint's manifest")
def _manifest(folder: Path) -> Target:
    path = _checkpoint(folder) / "manifest.json"
    name = path.relative_to(folder).as_posix()
    return Target((path.read_bytes(),), name, lambda path: verify_checkpoint(path.parent))


@register("checkpoint's tensors")
def _tensors(folder: Path) -> Target:
    content = (_checkpoint(folder) / "model/a.safetensors").read_bytes()
    return Target((content,), "a.safetensors", read_tensors)


@register("Prismatic's checkpoint")
def _prismatic(folder: Path) -> Target:
    valid = _saved({"model": {"projector": {"a": torch.ones(4)}}}), pickle.dumps(_Evil(folder))
    return Target(valid, "latest.pt", read_prismatic)


@register("UniAD's checkpoint")
def _uniad_weights(folder: Path) -> Target:
    content = {"state_dict": {"module.a": torch.ones(4)}, "epoch": 3, "best_metric": 0.5}
    return Target((_saved(content), pickle.dumps(_Evil(folder))), "ckpt.pth", read_published)


@register("shards of weights")
def _shards(folder: Path) -> Target:
    (folder / "a.safetensors").write_bytes((_checkpoint(folder) / "model/a.safetensors").read_bytes())
    index = to_json({"metadata": {"total_size": 1}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors"}})
    return Target((index,), "model.safetensors.index.json", _read_shards)


def _read_shards(path: Path) -> None:
    shard_files(path.parent)
    with reading_weights("model.weights"):
        read_state_dict(path.parent)


def _gguf(folder: Path) -> Target:
    return Target((_gguf_file(folder / "valid.gguf"),), "model.gguf", lambda path: get_tokenizer(str(path)))


if find_spec("gguf") is not None:  # an extra
    register("GGUF files")(_gguf)


def _gguf_file(path: Path) -> bytes:
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), "llama")
    words = ["<unk>", "<s>", "</s>", *(chr(code) for code in range(97, 123)), "ab", "th", "the"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] * 3 + [1] * (len(words) - 3))
    writer.add_token_merges(["a b", "t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_head_count(2)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((len(words), 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@register("OpenVLA's config.json")
def _openvla_config(folder: Path) -> Target:
    values = {"model_type": "openvla", "arch_specifier": "no-align+gelu-mlp", "norm_stats": {}}
    return Target((to_json(values),), "config.json", lambda path: open_openvla(path.parent))


@register("Prismatic's config.json")
def _prismatic_config(folder: Path) -> Target:
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/latest-checkpoint.pt").touch()
    values = {
        "model_id": "prism-dinosiglip-224px+7b", "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-224px", "llm_backbone_id": "llama2-7b-pure",
        "image_resize_strategy": "resize-naive", "llm_max_length": 2048,
    }  # fmt: skip
    return Target((to_json({"model": values}),), "config.json", lambda path: find_prismatic_run(path.parent))


@register("nanoVLM's config.json")
def _nanovlm_config(folder: Path) -> Target:
    content = to_json(to_published(NanoVLMTinyConfig()))
    return Target((content,), "config.json", lambda path: read_published_config(path.parent))
