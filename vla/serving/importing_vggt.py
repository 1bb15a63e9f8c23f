"""`vla convert import` of VGGT: a published file, checked tensor by tensor, as safetensors that policies begin with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vla.conf.models import ModelConfig
from vla.conf.models.atlas import AtlasVLAConfig
from vla.errors import UserError
from vla.models.backbones.vggt import get_vggt_spec
from vla.models.vggt import VGGT, VGGTSpec
from vla.models.vggt.weights import HEADS, load_vggt, save_vggt, tensor_names


def find_parts(path: Path) -> set[str] | None:
    """Parts of the VGGT in a file or folder (aggregator, camera_head, ...); None: it holds no VGGT."""
    try:
        names = tensor_names(path)
    except (OSError, ValueError, UserError):
        return None
    parts = {name.partition(".")[0] for name in names}
    return parts if "aggregator" in parts else None


def import_vggt(path: Path, parts: set[str], output: Path) -> Path:
    """Write the VGGT of `path` in the published layout, in fp32 and without a pickle; nothing of the file is executed.

    Args:
        path: a `.pt`, `.pth`, `.bin` or `.safetensors` file, or a folder that holds one.
        parts: of `find_parts`; all heads among them are taken over.
        output: folder for `model.safetensors` and `config.json`.

    Returns:
        The path of the tensors.

    Raises:
        UserError: it is no VGGT of a registered policy's sizes; names tensors that don't fit.
    """
    problems = []
    for spec in _specs(parts):
        with torch.device("meta"):
            model = VGGT(spec)
        try:
            load_vggt(model, path)
        except ValueError as error:
            problems.append(error)
        else:
            return save_vggt(model, output)
    raise UserError(f"input: {problems[0]}")


def _specs(parts: set[str]) -> list[VGGTSpec]:
    """Sizes of all registered policies' VGGTs, the published ones first, with the heads that are in a file."""
    configs = [choice() for choice in ModelConfig.get_known_choices().values() if issubclass(choice, AtlasVLAConfig)]
    heads: dict[str, Any] = {f"enable_{head.partition('_')[0]}": head in parts for head in HEADS}
    specs = {replace(get_vggt_spec(config.vggt, use_camera=True, use_points=True), **heads) for config in configs}
    return sorted(specs, key=lambda spec: spec.embed_dim, reverse=True)
