"""Saving and restoring a run: from a strategy to a checkpoint folder and back, with the same keys for all of them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from vla.conf import cli
from vla.conf.json_files import read_json_object
from vla.conf.pretrain import PretrainConfig
from vla.data.contract import describe_differences, find_differences
from vla.data.materialize import load_processor
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.models.lora import MARK, plain_name
from vla.overwatch import initialize_overwatch
from vla.overwatch.distributed import gather_objects
from vla.training.checkpoint_files import (
    CheckpointWriter,
    one_line_errors,
    read_manifest,
    read_tensors,
)
from vla.training.seeding import get_rng_state, seed_everything, set_rng_state

if TYPE_CHECKING:
    from vla.training.strategies.base_strategy import TrainStrategy

overwatch = initialize_overwatch(__name__)

PUBLISHED_GROUPS = ("vision_backbone", "llm_backbone")  # whose weights others publish
CONFIG, ASSETS, OPTIMIZER, STATE = "config.yaml", "assets", "trainer/optimizer.safetensors", "trainer/state.json"

Scatter = Callable[[Tensor, Tensor], Tensor]


def saved_groups(config: PretrainConfig, groups: list[str]) -> list[str]:
    """The module groups whose weights go into checkpoints.

    Left out is only a published backbone that is frozen and was loaded as published, not from an earlier stage: it
    can be had again from where it came from, and would fill gigabytes at every save.
    """
    published = config.model.pretrained and config.pretrained_checkpoint is None
    trained = config.stage_config.trained_groups
    return [name for name in groups if name in trained or not (published and name in PUBLISHED_GROUPS)]


def parameters_as_published(config: PretrainConfig, model: BaseModel) -> frozenset[str]:
    """Names of parameters that stay out of checkpoints although their group is in them: adapters train in their place,
    and they can be had again from where they came from.
    """
    if not config.model.pretrained or config.pretrained_checkpoint is not None:
        return frozenset()
    return frozenset(name for name in model.frozen_parameters if name.partition(".")[0] in PUBLISHED_GROUPS)


def rank_file(rank: int) -> str:
    """Name of the file with what is different in every process."""
    return f"trainer/rank-{rank:05d}.safetensors"


def save_checkpoint(strategy: "TrainStrategy", writer: CheckpointWriter) -> None:
    """Give `writer` everything that `restore_checkpoint` needs. All processes must call it; the main one's writes.

    Raises:
        OSError: it could not be written (raised in the main process only, after the others are done).
    """
    dist, config, state = strategy.dist, strategy.config, strategy.state
    groups = saved_groups(config, list(strategy.model.module_groups()))
    as_published = parameters_as_published(config, strategy.model)
    with writer:
        tensors = strategy.state_dict()
        for group in groups:
            names = [name for name, owner in strategy.owners.items() if owner == group and name not in as_published]
            writer.tensors(f"model/{group}.safetensors", _gathered(strategy, [(n, tensors[n]) for n in names]))
        writer.tensors(OPTIMIZER, gather_optimizer(strategy))
        for rank, content in enumerate(gather_objects(_rank_state(strategy), dist)):
            writer.data(rank_file(rank), content)
        writer.json(STATE, _shared_state(strategy))
        writer.data(CONFIG, cli.dump(config).encode())
        writer.call(strategy.feed.datasets.processor.save)
        writer.call(lambda beside: strategy.model.save_assets(beside / ASSETS))
        left_out = [name for name in strategy.model.module_groups() if name not in groups]
        writer.commit(
            {
                "global_step": state.global_step,
                "epoch": state.fractional_epoch,
                "world_size": dist.world_size,
                "model": type(config.model).model_id,
                "stage": config.stage.value,
                "groups": groups,
                "groups_as_published": left_out,
                "adapters_of_published": sorted({name.partition(".")[0] for name in as_published} & set(groups)),
            }  # fmt: skip
        )


def _shared_state(strategy: "TrainStrategy") -> dict[str, Any]:
    settings = [
        {key: value for key, value in group.items() if key != "params"} for group in strategy.optimizer.param_groups
    ]
    return {
        "trainer": strategy.state.state_dict(),
        "sampler": _sampler_state(strategy),
        "optimizer": {"name": strategy.stage.optimizer.name, "groups": settings},
        "scaler": strategy.scaler.state_dict(),
        "best": strategy.best.state_dict(),
        "trackers": strategy.monitor.state_dict(),
    }


def _sampler_state(strategy: "TrainStrategy") -> dict[str, int]:
    """The sampler's own position is that of the last epoch's start: workers read ahead. The run's state knows."""
    position = {"epoch": strategy.state.epoch, "step": strategy.state.step_in_epoch}
    return {**strategy.feed.sampler.state_dict(), **position}


def _rank_state(strategy: "TrainStrategy") -> bytes:
    monitor = strategy.monitor
    return safetensors.torch.save({**get_rng_state(), **monitor.sums.state_dict(), **monitor.statistics.state_dict()})


def gather_optimizer(strategy: "TrainStrategy") -> dict[str, Tensor]:
    """Optimizer state as whole tensors, by `<parameter name>.<state name>`, in the main process; empty in others. All
    processes must call it.
    """
    return _gathered(
        strategy,
        (
            (f"{name}.{key}", value)
            for name, parameter in _named_parameters(strategy)
            for key, value in strategy.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        ),
    )


def _gathered(strategy: "TrainStrategy", tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Whole tensors in the process that writes. The others hold one at a time: all of them on one machine, each with a
    whole model and its optimizer in memory, would end by running out of it in the middle of a save.
    """
    whole = {}
    for name, tensor in tensors:
        value = strategy.gather(tensor)
        if strategy.dist.is_main:
            whole[name] = value
    return whole


def _named_parameters(strategy: "TrainStrategy") -> list[tuple[str, nn.Parameter]]:
    groups = strategy.optimizer.param_groups
    return [pair for group in groups for pair in zip(group["names"], group["params"], strict=True)]


def restore_checkpoint(strategy: "TrainStrategy", folder: Path) -> None:
    """Bring `strategy`, set up from the same configuration, to where it stood when `folder` was written.

    The same number of processes goes on with the same bits; another number with the same order of samples.

    Raises:
        UserError: the checkpoint is incomplete or broken, or of another model, dataset or optimizer; one line.
    """
    with one_line_errors(folder):
        _restore(strategy, folder)


def _restore(strategy: "TrainStrategy", folder: Path) -> None:
    manifest, shared = read_manifest(folder), read_json_object(folder / STATE)
    check_contract(load_processor(folder).contract(), strategy.feed.datasets.processor.contract())
    load_weights(strategy.model, folder, scatter=strategy.scatter)
    _restore_optimizer(strategy, read_tensors(folder / OPTIMIZER), shared["optimizer"])
    strategy.state.load_state_dict(shared["trainer"])
    strategy.feed.sampler.load_state_dict(shared["sampler"])
    strategy.scaler.load_state_dict(shared["scaler"])
    strategy.best.load_state_dict(shared["best"])
    strategy.monitor.tracker_state = shared["trackers"]
    _restore_rank(strategy, folder, manifest["world_size"])
    overwatch.info(f"resumed from {folder} at step {strategy.state.global_step}")
    if shared["trainer"]["total_steps"] != strategy.state.total_steps:
        overwatch.warning(
            f"the run had {shared['trainer']['total_steps']} steps in all, now {strategy.state.total_steps}: "
            "from here on the learning rate follows another schedule"
        )


def _restore_optimizer(strategy: "TrainStrategy", tensors: dict[str, Tensor], settings: dict[str, Any]) -> None:
    parameters = dict(_named_parameters(strategy))
    before = {name for group in settings["groups"] for name in group["names"]}
    if settings["name"] != strategy.stage.optimizer.name or before != parameters.keys():
        other = sorted(before ^ parameters.keys())
        raise UserError(
            f"resume: the checkpoint's optimizer is {settings['name']} over {len(before)} parameters, this run's "
            f"{strategy.stage.optimizer.name} over {len(parameters)}" + (f"; only one has {other[0]}" if other else "")
        )
    for key, value in tensors.items():
        name, state_name = key.rsplit(".", 1)
        parameter = parameters[name]
        if value.ndim or state_name != "step":  # torch keeps step counts on the host, one for all shards
            value = strategy.scatter(value, parameter)
        strategy.optimizer.state[parameter][state_name] = value


def _restore_rank(strategy: "TrainStrategy", folder: Path, world_size: int) -> None:
    """Random number generators, open metric sums and counts."""
    rank = strategy.dist.rank
    if world_size == strategy.dist.world_size:
        tensors = read_tensors(folder / rank_file(rank))
        set_rng_state(tensors)
        strategy.monitor.sums.load_state_dict(tensors)
        strategy.monitor.statistics.load_state_dict(tensors)
        return
    overwatch.warning(
        f"the checkpoint was written by {world_size} processes, this run has {strategy.dist.world_size}: "
        "the samples come in the same order, but random numbers (dropout) are drawn anew"
    )
    seed_everything(strategy.config.seed + strategy.state.global_step, rank)
    if rank == 0:  # the sums of all processes are added up anyway
        sums: dict[str, Tensor] = {}
        for other in range(world_size):
            tensors = read_tensors(folder / rank_file(other))
            strategy.monitor.statistics.load_state_dict(tensors)
            for name, value in tensors.items():
                if name.startswith("sums."):
                    sums[name] = sums[name] + value if name in sums else value
        strategy.monitor.sums.load_state_dict(sums)


def check_contract(saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Raise UserError, one line, unless both sides agree on what goes into and comes out of the model.

    No field can be overridden here: statistics that a model has learnt with are not to be replaced.
    """
    if found := find_differences(saved, current):
        raise UserError(f"resume: the processor is another: {describe_differences(found, 'this run')}")


@torch.no_grad()
def load_weights(model: BaseModel, folder: Path, scatter: Scatter | None = None) -> list[str]:
    """Load the module groups that a checkpoint holds into `model`; the others stay as they are.

    Args:
        folder: a complete checkpoint.
        scatter: makes a whole tensor into one like the parameter that takes it; None copies.

    Returns:
        Names of the groups that were loaded.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape; one line with its name.
    """
    own = dict(model.state_dict(keep_vars=True))
    manifest = read_manifest(folder)
    groups = list(manifest["groups"])
    unknown = [group for group in groups if group not in model.module_groups()]
    if unknown:
        raise UserError(f"{folder}: has a module group {unknown[0]}, the model has none of that name")
    plain = {plain_name(name): name for name in own}  # a model with adapters takes weights of one without
    adapters_only = manifest.get("adapters_of_published", [])
    for group in groups:
        stored = read_tensors(folder / "model" / f"{group}.safetensors")
        tensors = {plain.get(plain_name(name), name): value for name, value in stored.items()}
        _check_names(tensors, own, folder)
        may_lack = set(model.frozen_parameters) if group in adapters_only else set()
        if not any(MARK in name for name in stored):
            may_lack |= {name for name in own if MARK in name}  # adapters that begin now
        _check_complete(group, tensors, own, model.module_groups()[group], folder, may_lack)
        for name, value in tensors.items():
            own[name].copy_(scatter(value, own[name]) if scatter else value)
    return groups


def _check_names(tensors: dict[str, Tensor], own: dict[str, Tensor], folder: Path) -> None:
    for name, value in tensors.items():
        if name not in own:
            raise UserError(f"{folder}: {name} is not in the model")
        if value.shape != own[name].shape:
            raise UserError(f"{folder}: {name} is {list(value.shape)} in the checkpoint, {list(own[name].shape)} here")


def _check_complete(
    group: str, tensors: dict[str, Tensor], own: dict[str, Tensor], module: nn.Module, folder: Path, may_lack: set[str]
) -> None:
    given = {id(own[name]) for name in (*tensors, *may_lack)}
    wanted = {id(parameter) for parameter in module.parameters()}
    for name, tensor in own.items():
        if id(tensor) in wanted - given:
            raise UserError(f"{folder}: {name} of {group} is missing")
