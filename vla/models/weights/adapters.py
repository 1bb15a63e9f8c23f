"""Folders of LoRA adapters in peft's layout: written, and merged into Hugging Face folders tensor by tensor."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vla.conf.json_files import read_json_object
from vla.conf.models.lora import LoRAConfig
from vla.errors import UserError
from vla.models.lora import adapters
from vla.models.weights.files import read_state_dict
from vla.models.weights.openvla import shard_files

CONFIG, TENSORS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
_UNSUPPORTED = ("use_dora", "fan_in_fan_out", "alpha_pattern", "rank_pattern", "modules_to_save", "layer_replication")


def write_adapter(
    model: nn.Module, config: LoRAConfig, folder: Path, published_name: Callable[[str], str], base: str | None
) -> int:
    """
    Write a model's adapters as peft reads them.

    Args:
        model: With adapters.
        config: That they were made by.
        folder: Is made.
        published_name: From a parameter's name in the model to that in the model that peft will find.
        base: Name of what was adapted, for people.

    Returns:
        Number of adapted layers.
    """
    tensors: dict[str, Tensor] = {}
    modules = []
    for name, layer in adapters(model):
        stem = published_name(f"{name}.weight").removesuffix(".weight")
        modules.append(stem)
        for side, part in (("A", layer.lora_A["default"]), ("B", layer.lora_B["default"])):
            tensors[f"{PREFIX}{stem}.lora_{side}.weight"] = part.weight.detach().float().cpu().contiguous()
        for key, magnitude in layer.lora_magnitude_vector.items():
            assert key == "default"
            tensors[f"{PREFIX}{stem}.lora_magnitude_vector"] = magnitude.weight.detach().float().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / TENSORS, {"format": "pt"})
    values = {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": base, "r": config.rank,
        "lora_alpha": config.resolved_alpha, "lora_dropout": config.dropout, "target_modules": modules, "bias": "none",
        "init_lora_weights": config.init if config.init == "gaussian" else True, "use_rslora": config.rank_stabilised,
        "use_dora": config.dora, "fan_in_fan_out": False, "inference_mode": True,
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return len(modules)


def merge_adapter(base: Path, adapter: Path, output: Path) -> int:
    """
    Add adapters to the model that they were trained on. No model is built; one file of tensors is in memory at a time.

    Args:
        base: Folder in a Hugging Face layout.
        adapter: Folder in peft's layout.
        output: Is made; has all of `base` besides, and keeps the tensors' types.

    Returns:
        Number of tensors that were changed.

    Raises:
        UserError: A folder is incomplete, the adapters are of another kind or of another model, or `output` is `base`.
    """
    pairs, scale = _read_adapter(adapter)
    if output.resolve() == base.resolve():
        raise UserError(f"output: must be another folder than base, got {output}")
    shards = shard_files(base)
    known = {name for shard in shards for name in _names(shard)}
    lost = sorted(stem for stem in pairs if f"{stem}.weight" not in known)
    if lost:
        raise UserError(f"adapter: {adapter} adapts {lost[0]}.weight and {len(lost) - 1} more that {base} has not")
    output.mkdir(parents=True, exist_ok=True)
    for path in base.iterdir():
        if path.is_file() and path not in shards:
            shutil.copy2(path, output / path.name)
    for shard in shards:
        tensors = read_state_dict(shard)
        for stem in pairs:
            name = f"{stem}.weight"
            if name in tensors:
                tensors[name] = _merged(tensors[name], *pairs[stem], scale(pairs[stem][0]))
        save_file({name: value.contiguous() for name, value in tensors.items()}, output / shard.name, {"format": "pt"})
    return len(pairs)


@torch.no_grad()
def _merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    if weight.shape != (len(up), down.shape[1]):
        raise UserError(f"adapter: is for a {[len(up), down.shape[1]]} tensor, the base has {list(weight.shape)}")
    return (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)


def _read_adapter(folder: Path) -> tuple[dict[str, tuple[Tensor, Tensor]], Callable[[Tensor], float]]:
    """The two matrices by the adapted module's name, and the scale as a function of the first."""
    try:
        values = read_json_object(folder / CONFIG)
        stored = read_state_dict(folder / TENSORS if (folder / TENSORS).is_file() else folder / "adapter_model.bin")
        alpha = float(values["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"adapter: {folder} can't be read as adapters of peft's ({error})") from error
    odd = [name for name in _UNSUPPORTED if values.get(name)]
    if values.get("peft_type") != "LORA" or odd:
        raise UserError(f"adapter: {folder} is no plain LoRA ({odd[0] if odd else values.get('peft_type')})")
    stems = {name.removeprefix(PREFIX).partition(".lora_")[0] for name in stored}
    try:
        pairs = {
            stem: (stored[f"{PREFIX}{stem}.lora_A.weight"], stored[f"{PREFIX}{stem}.lora_B.weight"]) for stem in stems
        }
    except KeyError as error:
        raise UserError(f"adapter: {folder} lacks {error.args[0]}") from error
    stabilised = bool(values.get("use_rslora"))
    return pairs, lambda down: alpha / (math.sqrt(len(down)) if stabilised else len(down))


def _names(shard: Path) -> list[str]:
    if shard.suffix != ".safetensors":
        return list(read_state_dict(shard))
    from safetensors import safe_open

    with safe_open(shard, framework="pt") as file:
        return list(file.keys())
