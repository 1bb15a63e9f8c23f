"""nanoVLM's published folders: `config.json` and `model.safetensors`, read and written.

Where the language model's two tables are one, only `decoder.head.weight` is in the file, and its metadata names the
other. Rotary frequencies are in the file, too; they follow from the configuration and are not read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.json_files import read_json_object
from vla.conf.models.nanovlm import NanoVLMConfig
from vla.conf.models.nanovlm_published import from_published, to_published
from vla.errors import UserError
from vla.models.weights.files import read_state_dict
from vla.models.weights.hub import CARD, front_matter, upload_folder
from vla.models.weights.report import match_weights
from vla.models.weights_source import download_file, reading_weights

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
PREFIXES = {"vision_encoder.": "vision_backbone.", "MP.": "projector.", "decoder.": "llm_backbone."}
_TABLE, _HEAD = "llm_backbone.token_embedding.weight", "llm_backbone.head.weight"
_FREQUENCIES = "llm_backbone.rotary_embd.inv_freq"
_FIELD = "model.weights"


def own_name(published: str) -> str:
    """Name here of a published tensor."""
    prefix = next((prefix for prefix in PREFIXES if published.startswith(prefix)), "")
    return PREFIXES.get(prefix, "") + published.removeprefix(prefix)


def published_name(own: str) -> str:
    """Published name of a tensor of the model."""
    prefix = next(prefix for prefix, ours in PREFIXES.items() if own.startswith(ours))
    return prefix + own.removeprefix(PREFIXES[prefix])


def load_published(model: nn.Module, source: str | Path) -> None:
    """
    Fill a `NanoVLM` with the weights of a published folder.

    Args:
        model: Of the same sizes.
        source: Folder, file, or Hugging Face id.

    Raises:
        UserError: It can't be read, or doesn't fit; one line.
    """
    with reading_weights(_FIELD):
        stored = read_state_dict(download_file(str(source), (WEIGHTS_FILE,)))
    tensors = tensors_from_published(stored, tied=model.get_parameter(_TABLE) is model.get_parameter(_HEAD))
    target = model.state_dict()
    fitting, report = match_weights(target, tensors)
    if not report.exact:
        raise UserError(f"{_FIELD}: '{source}' does not fit this model: {report.describe()}")
    model.load_state_dict({name: value.to(target[name].dtype) for name, value in fitting.items()})


def tensors_from_published(stored: Mapping[str, Tensor], *, tied: bool) -> dict[str, Tensor]:
    """Tensors of a published file under the names that they have here; of a shared table, under both of its names."""
    tensors = {own_name(name): value for name, value in stored.items()}
    tensors.pop(_FREQUENCIES, None)
    if tied:
        for name, other in ((_TABLE, _HEAD), (_HEAD, _TABLE)):
            if name not in tensors and other in tensors:
                tensors[name] = tensors[other]
    return tensors


def is_published(folder: Path) -> bool:
    """Whether a folder is laid out as nanoVLM's."""
    try:
        return "lm_hidden_dim" in read_json_object(folder / CONFIG_FILE)
    except UserError:
        return False


def read_published_config(folder: Path, base: NanoVLMConfig | None = None) -> NanoVLMConfig:
    """
    The configuration that a published folder describes; its weights are the folder's.

    Raises:
        UserError: There is no such file, or it is none of nanoVLM.
    """
    path = folder / CONFIG_FILE
    try:
        content = read_json_object(path)
        if "lm_hidden_dim" not in content:
            raise ValueError("there is no lm_hidden_dim in it")
        return from_published({**content}, base)
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{path}: not the configuration of a nanoVLM ({error})") from error


def save_published(model: nn.Module, config: NanoVLMConfig, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """
    Write `config.json` and `model.safetensors` as nanoVLM does.

    Args:
        model: A `NanoVLM`.
        config: Its configuration.
        folder: Is made if need be.
        dtype: Of the tensors.

    Raises:
        UserError: nanoVLM's format has no place for this vision backbone.
    """
    from safetensors.torch import save_file

    try:
        content = to_published(config)
    except ValueError as error:
        raise UserError(f"model.{error}") from None
    tensors = {published_name(name): value.detach().contiguous() for name, value in model.state_dict().items()}
    frequencies: Any = model.get_buffer(_FREQUENCIES)
    tensors[published_name(_FREQUENCIES)] = frequencies.detach()
    metadata: dict[str, str] = {}
    if model.get_parameter(_TABLE) is model.get_parameter(_HEAD):
        metadata = {published_name(_TABLE): published_name(_HEAD)}
        del tensors[published_name(_TABLE)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(content, indent=4), encoding="utf-8")
    save_file({name: value.to("cpu", dtype) for name, value in tensors.items()}, folder / WEIGHTS_FILE, metadata)


def upload_published(folder: Path, repository: str, *, private: bool = False) -> str:
    """
    Upload a folder that `save_published` wrote, with a short model card; returns the model's page.

    Args:
        folder: What to upload.
        repository: "owner/name" on the Hugging Face hub; is made if need be.
        private: Whether a new repository is private.

    Raises:
        UserError: The hub can't be reached, or refuses; one line.
    """
    (folder / CARD).write_text(model_card(repository), encoding="utf-8")
    return upload_folder(folder, repository, private=private, message="Upload nanoVLM")


def model_card(repository: str) -> str:
    """The text of a model's page."""
    head = {
        "library_name": "nanovlm", "pipeline_tag": "image-text-to-text", "tags": ["vision-language", "nanovlm"],
    }  # fmt: skip
    return (
        f"{front_matter(head)}\n# {repository.rpartition('/')[2]}\n\nA small vision-language model in the format of "
        "nanoVLM: `config.json` and `model.safetensors`.\n"
    )
