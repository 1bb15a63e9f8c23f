"""
weights.py

Published VGGT weights from local files into a model, with a report of every key that does not fit. The weights have
their own licences (facebook/VGGT-1B: non-commercial; facebook/VGGT-1B-Commercial: see its form).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vla.models.vggt.vggt import VGGT
from vla.models.weights.files import read_state_dict
from vla.models.weights.report import LoadReport, match_weights

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
_IGNORED_SUFFIXES = ("_resnet_mean", "_resnet_std")  # constants that some files hold
_PREFIX = "module."
HEADS = {  # by the field of `VGGTSpec`, and of the published class, that builds them
    f"enable_{name}": f"{name}_head" for name in ("camera", "depth", "point", "track")
}


def load_vggt(model: VGGT, path: str | os.PathLike[str], strict: bool = True) -> LoadReport:
    """
    Load weights into a model.

    A model on the meta device takes over the file's tensors (on the CPU, in the model's dtype), so that nothing is held
    twice; it must then be loaded strictly. Other models are filled in place.

    Args:
        model: The model to fill.
        path: A `.safetensors` file, a `.pt`/`.pth`/`.bin` file of tensors, or a folder that holds one.
        strict: Refuse files with a key that does not fit.

    Returns:
        What fitted and what did not.

    Raises:
        FileNotFoundError: There is no such file, or no weights in the folder.
        ValueError: The file is of another kind, or (strict, or on the meta device) a key does not fit. The model is
            unchanged then.
    """
    return fill_vggt(model, read_vggt(path), path, strict)


def fill_vggt(
    model: VGGT, weights: Mapping[str, Tensor], path: str | os.PathLike[str], strict: bool = True
) -> LoadReport:
    """Load what `read_vggt` read from `path`; see `load_vggt`."""
    absent = tuple(f"{name}." for name in HEADS.values() if getattr(model, name) is None)
    skipped = tuple(key for key in weights if key.startswith(absent))
    weights = {key: value for key, value in weights.items() if not key.startswith(absent)}
    target = model.state_dict()
    fitting, report = match_weights(target, weights, skipped)
    on_meta = any(value.is_meta for value in target.values())
    if (strict or on_meta) and not report.exact:
        raise ValueError(f"{path}: weights do not fit the model: {report.describe()}")
    if on_meta:
        fitting = {key: value.to(target[key].dtype) for key, value in fitting.items()}
    model.load_state_dict(fitting, strict=False, assign=on_meta)
    model.aggregator.reset_buffers()
    return report


def read_vggt(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """
    Tensors of a file or folder by their published names: without a distributed wrapper's prefix and stored constants.

    Raises:
        FileNotFoundError, ValueError: as `load_vggt`.
    """
    cleaned = {key.removeprefix(_PREFIX): value for key, value in read_state_dict(path).items()}
    return {key: value for key, value in cleaned.items() if not key.endswith(_IGNORED_SUFFIXES)}


def save_vggt(model: VGGT, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """
    Write `model.safetensors`, with the published names, and `config.json`, the sizes that the published class takes.

    Args:
        model: Its parts that were not built are not in the file.
        folder: Is made if need be.
        dtype: Of the tensors.

    Returns:
        The path of the tensors.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE, {"format": "pt"})
    spec = model.spec
    sizes = {name: getattr(spec, name) for name in ("img_size", "patch_size", "embed_dim")}
    parts = {switch: getattr(model, head) is not None for switch, head in HEADS.items()}
    (folder / CONFIG_FILE).write_text(json.dumps({**sizes, **parts}, indent=2) + "\n", encoding="utf-8")
    return folder / WEIGHTS_FILE
