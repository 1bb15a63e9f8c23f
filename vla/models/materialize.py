"""The one factory of models."""

from pathlib import Path
from typing import Any

import torch

from vla.conf.models.base import ModelConfig
from vla.conf.models.lora import LoRAConfig
from vla.conf.registry import resolve_target
from vla.models.base import BaseModel
from vla.models.lora import add_lora
from vla.models.weights_source import WeightsNotFound

__all__ = ["WeightsNotFound", "get_model"]


def get_model(
    model_config: ModelConfig, *, device: str = "cpu", seed: int = 7, assets: Path | None = None
) -> BaseModel:
    """
    Build the model that a configuration describes, with float32 parameters and no stage applied.

    On `meta` only shapes are made: in seconds for any size, with no weights and no network.

    Args:
        model_config: Its `target` names the class.
        device: Where the model goes; `meta` allocates nothing.
        seed: What is built at random depends on it alone; PyTorch's own generator is left as it was.
        assets: A checkpoint's folder that `save_assets` wrote: shapes and tokenizer come from it and no pretrained
            weights are looked for, since the checkpoint's own will be loaded.

    Returns:
        The model in training mode.

    Raises:
        WeightsNotFound: Pretrained weights can't be had; raised before anything is allocated.
        ValueError: The configuration's parts don't fit together.
    """
    cls = resolve_target(model_config)
    on_meta = torch.device(device).type == "meta"
    pretrained = model_config.pretrained and not on_meta and assets is None
    found = {"weights": cls.find_weights(model_config) if pretrained else None, "assets": assets}
    given = {name: value for name, value in found.items() if value}
    if on_meta:
        with torch.device("meta"):
            return _with_adapters(cls(model_config, **given), model_config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _with_adapters(cls(model_config, **given), model_config)
    return model.to(device)


def _with_adapters(model: BaseModel, config: Any) -> BaseModel:
    """The model with the adapters that its configuration asks for, if it is of a kind that can have any."""
    lora: LoRAConfig | None = getattr(config, "lora", None)
    if lora is not None and lora.rank:
        add_lora(model, lora)
    return model
