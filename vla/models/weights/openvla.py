"""Folders in OpenVLA's Hugging Face layout (openvla/openvla-7b): names, sizes out of the file, and reading.

Nothing in a folder is executed: of `trust_remote_code` there is no need.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.json_files import read_json_object
from vla.conf.models.language import CausalLMConfig
from vla.conf.models.openvla import OpenVLAConfig
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.registry import available, choices_text
from vla.errors import UserError
from vla.models.weights.files import read_state_dict, shard_names
from vla.models.weights.report import match_weights
from vla.models.weights_source import reading_weights

FIELD, MODEL = "model.weights", "model"  # configuration field, and key in what `find_weights` gives
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
WEIGHT_FILES = (INDEX, "model.safetensors", "pytorch_model.bin")
SNAPSHOT = ("*.json", "*.safetensors", "*.model", "*--*_checkpoint.pt")  # of a repository on the hub
# What transformers 4.40 takes where `text_config` says nothing. Llama-2 was trained with an epsilon of 1e-5, but the
# published folders leave it out and so compute with 1e-6.
_TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}  # fmt: skip
_PROJECTOR = {"fc1": "0", "fc2": "2", "fc3": "4"}


@dataclass(frozen=True)
class OpenVLAFolder:
    """An opened folder, its tensors not read yet."""

    path: Path
    values: dict[str, Any]  # config.json

    @property
    def vision_backbone(self) -> VisionBackboneConfig:
        """The configuration that the file names."""
        return _choice(VisionBackboneConfig, self.values, "vision_backbone_id", self.path)()

    @property
    def llm_backbone(self) -> CausalLMConfig:
        """The configuration that the file names, with the file's sizes."""
        text = _TEXT_DEFAULTS | self.values.get("text_config", {})
        text |= {name: value for name, value in text.get("rope_parameters", {}).items() if name == "rope_theta"}
        llm = _choice(CausalLMConfig, self.values, "llm_backbone_id", self.path)
        vocabulary = text["vocab_size"] - (self.padding if llm.pad_token is not None else 0)
        config = llm(
            weights=None, vocab_size=vocabulary, hidden_size=text["hidden_size"],
            intermediate_size=text["intermediate_size"], num_layers=text["num_hidden_layers"],
            num_heads=text["num_attention_heads"],
            num_kv_heads=text.get("num_key_value_heads") or text["num_attention_heads"],
            max_position=text["max_position_embeddings"], rope_theta=text["rope_theta"],
            rms_norm_eps=text["rms_norm_eps"], tie_embeddings=text["tie_word_embeddings"],
        )  # fmt: skip
        if config.padded_vocab_size != text["vocab_size"]:
            raise UserError(
                f"{self.path / CONFIG}: text_config.vocab_size must be {config.padded_vocab_size} for {vocabulary} "
                f"tokens and padding, got {text['vocab_size']}"
            )
        return config

    @property
    def padding(self) -> int:
        """Rows of the token table that published code counts as padding."""
        return int(self.values.get("pad_to_multiple_of", 64))

    @property
    def statistics(self) -> dict[str, Any]:
        """Content of `dataset_statistics.json`, which fine-tuned models have, or of the file's `norm_stats`."""
        path = self.path / "dataset_statistics.json"
        if path.is_file():
            return read_json_object(path)
        return self.values.get("norm_stats") or {}

    def fit(self, config: OpenVLAConfig) -> OpenVLAConfig:
        """`config` with the file's parts and sizes, and the folder's tokenizer unless it names another.

        Raises:
            UserError: the file is of another vision backbone or another projector than `config`.
        """
        vision = type(self.vision_backbone).backbone_id
        _require_same("vision_backbone.type", type(config.vision_backbone).backbone_id, vision, self.path)
        specifier = self.values["arch_specifier"].removeprefix("no-align+")
        _require_same("arch_specifier", config.projector_type, specifier, self.path)
        llm = replace(self.llm_backbone, tokenizer=config.llm_backbone.tokenizer or self._tokenizer)
        return replace(
            config, llm_backbone=llm, action_bins=self.values.get("n_action_bins", config.action_bins),
            action_vocab_size=llm.padded_vocab_size - self.padding,
        )  # fmt: skip

    @property
    def _tokenizer(self) -> str | None:
        has_one = any((self.path / name).is_file() for name in ("tokenizer.json", "tokenizer.model"))
        return str(self.path) if has_one else None


def is_openvla_folder(path: Path) -> bool:
    """Whether `path` is a folder in OpenVLA's Hugging Face layout."""
    try:
        return read_json_object(path / CONFIG).get("model_type") == "openvla"
    except UserError:
        return False


def open_openvla(source: str | Path) -> OpenVLAFolder:
    """
    Open a local folder, or one of the hub, which is brought here.

    Raises:
        UserError: it isn't one.
    """
    path = Path(source).expanduser()
    if not path.is_dir():
        from huggingface_hub import snapshot_download

        path = Path(snapshot_download(str(source), allow_patterns=list(SNAPSHOT)))
    values = read_json_object(path / CONFIG)
    if values.get("model_type") != "openvla" or "arch_specifier" not in values:
        raise UserError(f"{path / CONFIG}: not the configuration of an OpenVLA model")
    return OpenVLAFolder(path, values)


def native_name(name: str, towers: list[str]) -> str:
    """A tensor's name in the toolkit for its name in a folder; `towers` are the vision backbone's, in order.

    >>> native_name("vision_backbone.fused_featurizer.blocks.0.ls1.scale_factor", ["dino", "siglip"])
    'vision_backbone.siglip_featurizer.blocks.0.ls1.gamma'
    """
    group, _, rest = name.partition(".")
    if group == "language_model":
        return f"llm_backbone.llm.{rest}"
    if group == "projector":
        layer, _, kind = rest.partition(".")
        return f"projector.projector.{_PROJECTOR.get(layer, layer)}.{kind}"
    if group == "vision_backbone":
        rest = re.sub(r"\.scale_factor$", ".gamma", rest)
        if len(towers) > 1:
            rest = re.sub(r"^featurizer\.", f"{towers[0]}_featurizer.", rest)
            rest = re.sub(r"^fused_featurizer\.", f"{towers[1]}_featurizer.", rest)
    return f"{group}.{rest}"


def published_name(name: str, towers: list[str]) -> str:
    """The inverse of `native_name`."""
    group, _, rest = name.partition(".")
    if group == "llm_backbone":
        return f"language_model.{rest.removeprefix('llm.')}"
    if group == "projector":
        layer, _, kind = rest.removeprefix("projector.").partition(".")
        return f"projector.{ {number: fc for fc, number in _PROJECTOR.items()}[layer] }.{kind}"
    rest = re.sub(r"\.gamma$", ".scale_factor", rest)
    if len(towers) > 1:
        rest = re.sub(f"^{towers[0]}_featurizer\\.", "featurizer.", rest)
        rest = re.sub(f"^{towers[1]}_featurizer\\.", "fused_featurizer.", rest)
    return f"{group}.{rest}"


def load_openvla(model: nn.Module, folder: OpenVLAFolder, towers: list[str]) -> None:
    """
    Give a model the tensors of a folder, in float32, shard by shard.

    Args:
        model: Its parameters may be on `meta`; those that a folder has no name for keep their values.
        folder: Opened.
        towers: Of the vision backbone, in order.

    Raises:
        UserError: A tensor is missing, unexpected or of another shape; one line. Nothing was loaded then.
    """
    with reading_weights(FIELD):
        shapes = {
            native_name(name, towers): value for shard in shard_files(folder.path) for name, value in _shapes(shard)
        }
        _, report = match_weights(model.state_dict(), shapes)
        if not report.exact:
            raise UserError(f"{FIELD}: {folder.path} does not fit the model: {report.describe()}")
        for shard in shard_files(folder.path):
            tensors = {native_name(name, towers): value.float() for name, value in read_state_dict(shard).items()}
            model.load_state_dict(tensors, strict=False, assign=True)


def shard_files(folder: Path) -> list[Path]:
    """The files of tensors in a folder in a Hugging Face layout.

    Raises:
        UserError: its index can't be read, or points outside of it.
    """
    if (folder / INDEX).is_file():
        return [folder / name for name in shard_names(folder / INDEX)]
    return [next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), folder / WEIGHT_FILES[1])]


def _shapes(shard: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors without content of a file."""
    if shard.suffix != ".safetensors":
        yield from read_state_dict(shard).items()
        return
    from safetensors import safe_open

    with safe_open(shard, framework="pt") as file:
        for name in file.keys():
            yield name, torch.empty(file.get_slice(name).get_shape(), device="meta")


def _choice(base: Any, values: dict[str, Any], field: str, path: Path) -> Any:
    if values.get(field) not in available(base):
        raise UserError(f"{path / CONFIG}: {field} {choices_text(str(values.get(field)), available(base))}")
    return base.get_choice_class(values[field])


def _require_same(field: str, configured: str, found: str, path: Path) -> None:
    if configured != found:
        raise UserError(
            f"model.{field}: {path} has {found}, the configuration says {configured}; pass --model.{field} {found}"
        )
