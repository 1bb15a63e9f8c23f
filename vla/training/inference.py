"""From a checkpoint to a model that predicts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.conf import cli
from vla.conf.models import ModelConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.materialize import load_processor
from vla.models.base import BaseModel
from vla.models.materialize import get_model
from vla.training.checkpoint import ASSETS, CONFIG, load_weights
from vla.training.checkpoint_files import read_manifest
from vla.training.checkpoint_store import find_checkpoint


def build_model(config: ModelConfig, folder: Path, seed: int = 7) -> BaseModel:
    """The model that a checkpoint belongs to, with its weights; published ones are looked for only if it has none.

    Raises:
        UserError: the checkpoint is incomplete or of another model, or a backbone that it leaves out can't be found.
    """
    manifest = read_manifest(folder)
    if manifest["groups_as_published"] or manifest.get("adapters_of_published"):
        model = get_model(config, seed=seed)
    elif (folder / ASSETS).is_dir():
        model = get_model(config, seed=seed, assets=folder / ASSETS)
    else:
        model = get_model(replace(config, pretrained=False), seed=seed)
    load_weights(model, folder)
    return model


def load_for_inference(path: Path, device: str = "cpu") -> tuple[PretrainConfig, Any, BaseModel]:
    """What a checkpoint needs to predict: its run's configuration, its Processor, and its model in evaluation mode.

    Args:
        path: a checkpoint folder, or a run folder (then its best checkpoint, else its last).
        device: where the model goes.

    Raises:
        UserError: there is no complete checkpoint, or a published backbone that it leaves out can't be found.
    """
    folder = find_checkpoint(path, prefer="best")
    config = cli.load(PretrainConfig, folder / CONFIG)
    model = build_model(config.model, folder, config.seed)
    return config, load_processor(folder), model.to(device).eval()
