"""Reading files of tensors, without running anything that is in them."""

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vla.conf.json_files import read_json_object
from vla.errors import UserError

_WRAPPERS = ("model", "state_dict")
_INDEX_NAME = "model.safetensors.index.json"
_FILE_NAMES = ("model.safetensors", "model.pt", "pytorch_model.bin")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """
    Tensors of a weights file or folder, on the CPU.

    Raises:
        FileNotFoundError: There is no such file, or no weights in the folder.
        ValueError: The file is of another kind or holds no tensors.
    """
    path = Path(path)
    if path.is_dir():
        index = path / _INDEX_NAME
        if index.is_file():
            return _read_shards(index)
        path = _weights_in(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights file at {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in (".pt", ".pth", ".bin"):
        raise ValueError(f"{path}: expected a .safetensors, .pt, .pth or .bin file")
    check_not_compressed(path)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of whatever kind the unpickler stumbles over
        raise ValueError(f"{path}: can't be read as a PyTorch file ({type(error).__name__})") from error
    for name in _WRAPPERS:  # training checkpoints wrap the weights
        if isinstance(weights, Mapping) and isinstance(weights.get(name), Mapping):
            weights = weights[name]
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path}: does not hold a mapping from names to tensors")
    return dict(weights)


def check_not_compressed(path: Path) -> None:
    """
    Check that a PyTorch file is no larger in memory than on the disk: PyTorch compresses nothing, but reads what is,
    and of a few kilobytes could come more than any memory holds.

    Raises:
        ValueError: It is larger, or its list of content is damaged; one line.
    """
    if not zipfile.is_zipfile(path):  # the older format, or no such file
        return
    try:
        with zipfile.ZipFile(path) as content:
            size = sum(member.file_size for member in content.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path}: can't be read as a PyTorch file ({type(error).__name__})") from error
    if size > path.stat().st_size:
        raise ValueError(
            f"{path}: is no file as PyTorch writes it: {path.stat().st_size:,} bytes that would become {size:,}"
        )


def _weights_in(folder: Path) -> Path:
    for name in _FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    candidates = sorted((*folder.glob("*.safetensors"), *folder.glob("*.pt")))
    if len(candidates) != 1:
        found = ", ".join(candidate.name for candidate in candidates) or "none"
        raise FileNotFoundError(f"{folder}: expected one of {', '.join(_FILE_NAMES)} or a single file, found {found}")
    return candidates[0]


def _read_shards(index: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name in shard_names(index):
        weights |= _read_safetensors(index.parent / name)
    return weights


def shard_names(index: Path) -> list[str]:
    """
    Names of the files that an index of a Hugging Face folder puts together, sorted.

    Raises:
        UserError: it can't be read, or names something else than files beside it.
    """
    content = read_json_object(index).get("weight_map")
    names = set(content.values()) if isinstance(content, dict) and _are_texts(content.values()) else set()
    if not names:
        raise UserError(f"{index}: holds no weight_map from tensors to files")
    for name in names:
        if Path(name).name != name:  # an index may not point outside of its folder
            raise UserError(f"{index}: shard name {name!r} is not a plain file name")
    return sorted(names)


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # late: building a model does not need it

    return load_file(path, device="cpu")
