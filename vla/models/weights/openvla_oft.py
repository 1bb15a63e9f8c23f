"""What OpenVLA-OFT publishes beside the Hugging Face folder: a `.pt` file for each module that it adds.

`<module>--<step>_checkpoint.pt`, or `--latest_checkpoint.pt`; names inside begin with `module.`, since they were saved
out of DDP.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.models.openvla_oft import (
    DiffusionHeadConfig,
    DiscreteHeadConfig,
    L1HeadConfig,
    OFTHeadConfig,
    OpenVLAOFTConfig,
)
from vla.errors import UserError
from vla.models.weights.files import read_state_dict
from vla.models.weights.openvla import FIELD, native_name
from vla.models.weights.report import match_weights
from vla.models.weights_source import reading_weights

HEAD, PROPRIO, NOISY, VISION = "action_head", "proprio_projector", "noisy_action_projector", "vision_backbone"
_WRAPPER = "module."
_LORA_ALPHA = 16  # published: min(rank, 16)


def find_component(folder: Path, name: str) -> Path | None:
    """The file of a module, if there is one.

    Raises:
        UserError: there are several.
    """
    found = sorted(folder.glob(f"{name}--*checkpoint.pt"))
    if len(found) > 1:
        raise UserError(
            f"{folder}: must hold one {name}--*_checkpoint.pt, has {', '.join(path.name for path in found)}"
        )
    return found[0] if found else None


def is_oft_folder(folder: Path) -> bool:
    """Whether a folder has any of OFT's files."""
    return any(find_component(folder, name) is not None for name in (HEAD, PROPRIO, NOISY, VISION))


def oft_config(folder: Path, config: OpenVLAOFTConfig) -> OpenVLAOFTConfig:
    """`config` with the modules that a folder has files of, and their sizes."""
    state = find_component(folder, PROPRIO)
    values: dict[str, Any] = {"film": find_component(folder, VISION) is not None, "action_head": _head_config(folder)}
    if state is not None:
        values["proprio_dim"] = _read(state)["fc1.weight"].shape[1]
    return replace(config, processor=replace(config.processor, proprio=state is not None), **values)


def _head_config(folder: Path) -> OFTHeadConfig:
    path = find_component(folder, HEAD)
    if path is None:
        return DiscreteHeadConfig()
    tensors = _read(path)
    kind = DiffusionHeadConfig if any(name.startswith("noise_predictor.") for name in tensors) else L1HeadConfig
    blocks = {match[1] for name in tensors if (match := re.search(r"mlp_resnet_blocks\.(\d+)\.", name))}
    hidden = next(value for name, value in tensors.items() if name.endswith("fc1.weight"))
    return kind(hidden_dim=hidden.shape[0], num_blocks=len(blocks))


def load_oft(modules: nn.Module, vision_backbone: nn.Module, folder: Path, towers: list[str]) -> list[str]:
    """
    Load the files of a folder; a folder without any, OpenVLA's own, leaves the modules as they are.

    Args:
        modules: `vla.models.components.oft_heads.ActionModules`.
        vision_backbone: With FiLM, if it has a file.
        folder: Local.
        towers: Of the vision backbone, in order.

    Returns:
        Names of the modules that were loaded.

    Raises:
        UserError: A module that the model has is missing, or another one is there; or a tensor is.
    """
    if not is_oft_folder(folder):
        return []
    loaded = []
    for name in (HEAD, PROPRIO, NOISY):
        path, module = find_component(folder, name), getattr(modules, name)
        if (path is None) != (module is None):
            lacking, extra = ("the folder", "the model") if path is None else ("the model", "the folder")
            raise UserError(f"{FIELD}: {folder}: {extra} has {name}, {lacking} has none")
        if path is not None:
            _load(module, _read(path), path)
            loaded.append(name)
    path = find_component(folder, VISION)
    if path is not None:
        tensors = _merged({name.removeprefix(f"{VISION}."): value for name, value in _read(path).items()})
        native = {native_name(f"{VISION}.{name}", towers): value for name, value in tensors.items()}
        _load(vision_backbone, {name.removeprefix(f"{VISION}."): value for name, value in native.items()}, path)
        loaded.append(VISION)
    return loaded


def save_oft(modules: nn.Module, folder: Path, step: int, dtype: torch.dtype) -> None:
    """Write the files of OFT's own modules into `folder`."""
    for name in (HEAD, PROPRIO, NOISY):
        module = getattr(modules, name)
        if module is not None:
            tensors = {key: value.detach().to("cpu", dtype) for key, value in module.state_dict().items()}
            save_component(tensors, folder, name, step)


def save_component(tensors: dict[str, Tensor], folder: Path, name: str, step: int) -> None:
    """Write the file of a module; one of another step is removed."""
    for old in folder.glob(f"{name}--*checkpoint.pt"):
        old.unlink()
    content = {f"{_WRAPPER}{key}": value for key, value in tensors.items()}
    torch.save(content, folder / f"{name}--{step}_checkpoint.pt")


def _read(path: Path) -> dict[str, Tensor]:
    with reading_weights(FIELD):
        return {name.removeprefix(_WRAPPER): value for name, value in read_state_dict(path).items()}


def _load(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    _, report = match_weights(module.state_dict(), tensors)
    if not report.exact:
        raise UserError(f"{FIELD}: {path} does not fit the model: {report.describe()}")
    module.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)


def _merged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adapters of peft's, which the published code leaves in the vision backbone, added to what they adapt."""
    result = {}
    for name, value in tensors.items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        stem = name.removesuffix(".base_layer.weight")
        if stem != name and f"{stem}.lora_A.default.weight" in tensors:
            down, up = (tensors[f"{stem}.lora_{side}.default.weight"].float() for side in "AB")
            value = value.float() + up @ down * (min(len(down), _LORA_ALPHA) / len(down))
        result[plain] = value
    return result
