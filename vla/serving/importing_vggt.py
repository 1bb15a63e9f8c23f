"""`vla convert import` of VGGT: a published file, checked tensor by tensor, as safetensors that policies begin with."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.conf.models import ModelConfig
from vla.conf.models.atlas import AtlasVLAConfig
from vla.errors import UserError
from vla.models.backbones.vggt import get_vggt_spec
from vla.models.vggt import VGGT, VGGTSpec
from vla.models.vggt.weights import HEADS, fill_vggt, read_vggt, save_vggt


def find_vggt(path: Path) -> dict[str, Tensor] | None:
    """Tensors of the VGGT in a file or folder, on the CPU, by their published names; None: it holds no VGGT."""
    try:
        weights = read_vggt(path)
    except (OSError, ValueError, UserError):
        return None
    return weights if "aggregator" in _parts(weights) else None


def import_vggt(path: Path, weights: Mapping[str, Tensor], output: Path) -> Path:
    """Write the VGGT of `path` in the published layout, in fp32 and without a pickle; nothing of the file is executed.

    Args:
        path: a `.pt`, `.pth`, `.bin` or `.safetensors` file, or a folder that holds one.
        weights: what `find_vggt` found there; all heads among them are taken over.
        output: folder for `model.safetensors` and `config.json`.

    Returns:
        The path of the tensors.

    Raises:
        UserError: it is no VGGT of a registered policy's sizes; names tensors that don't fit.
    """
    problems = []
    for spec in _specs(_parts(weights)):
        with torch.device("meta"):
            model = VGGT(spec)
        try:
            fill_vggt(model, weights, path)
        except ValueError as error:
            problems.append(error)
        else:
            return save_vggt(model, output)
    raise UserError(f"input: {problems[0]}")


def _parts(weights: Mapping[str, Tensor]) -> set[str]:
    """First words of the names: aggregator, camera_head, ..."""
    return {name.partition(".")[0] for name in weights}


def _specs(parts: set[str]) -> list[VGGTSpec]:
    """Sizes of all registered policies' VGGTs, the published ones first, with the heads that are in a file."""
    configs = [choice() for choice in ModelConfig.get_known_choices().values() if issubclass(choice, AtlasVLAConfig)]
    heads: dict[str, Any] = {switch: head in parts for switch, head in HEADS.items()}
    specs = {replace(get_vggt_spec(config.vggt, use_camera=True, use_points=True), **heads) for config in configs}
    return sorted(specs, key=lambda spec: spec.embed_dim, reverse=True)
