"""Models of other code bases as checkpoint folders: weights, configuration and Processor; no optimizer."""

from pathlib import Path
from typing import Any

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig
from vla.models.base import BaseModel
from vla.training.checkpoint import ASSETS, CONFIG
from vla.training.checkpoint_files import CheckpointWriter
from vla.training.optim import parameter_owners


def write_imported(run: PretrainConfig, processor: Any, model: BaseModel, folder: Path) -> None:
    """Write a checkpoint that evaluation, serving and further training read like one of a run.

    Args:
        run: of the model; names no file of where it came from.
        processor: of the model's kind.
        model: all of its module groups are written.
        folder: is made; a checkpoint that is there is replaced.

    Raises:
        OSError: it can't be written; no trace is left.
    """
    state, groups, owners = model.state_dict(), list(model.module_groups()), parameter_owners(model)
    with CheckpointWriter(folder) as writer:
        for name in groups:
            tensors = {key: state[key] for key, owner in owners.items() if owner == name}  # tied ones once
            writer.tensors(f"model/{name}.safetensors", tensors)
        writer.data(CONFIG, cli.dump(run).encode())
        writer.call(processor.save)
        writer.call(lambda beside: model.save_assets(beside / ASSETS))
        writer.commit(
            {
                "global_step": 0,
                "epoch": 0.0,
                "world_size": 1,
                "model": type(run.model).model_id,
                "stage": run.stage.value,
                "groups": groups,
                "groups_as_published": [],
            }  # fmt: skip
        )
