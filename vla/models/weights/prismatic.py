"""Run folders as Prismatic writes them: `config.json` and `checkpoints/*.pt` with tensors by module group.

Nothing in a checkpoint is executed when it is read.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla.conf.json_files import read_json_object
from vla.conf.models import ModelConfig, PrismaticConfig
from vla.conf.models.language import CausalLMConfig
from vla.conf.models.vision import VisionBackboneConfig
from vla.conf.registry import available, choices_text, resolve_target
from vla.errors import UserError
from vla.models.vlms.prismatic import VISION, PrismaticVLM
from vla.models.weights.empty import parameters_on_meta
from vla.models.weights.files import check_not_compressed
from vla.models.weights.report import match_weights
from vla.models.weights_source import WeightsNotFound, find_weights, hub_file

REPOSITORY = "TRI-ML/prismatic-vlms"  # of released weights, by model id
CONFIG, CHECKPOINTS, LATEST = "config.json", "checkpoints", "latest-checkpoint.pt"
_STEP = re.compile(r"step-(\d+)-epoch-\d+-loss=.*\.pt")
_CONSTANTS = ("rotary_emb.inv_freq",)  # which older versions of transformers saved

Groups = dict[str, dict[str, Tensor]]  # tensors by module group, named as inside the group


@dataclass(frozen=True)
class PrismaticRun:
    """A published run folder."""

    config: PrismaticConfig  # with the backbones that its `config.json` names
    checkpoint: Path


def is_prismatic_run(path: Path) -> bool:
    """Whether `path` is a run folder, or a checkpoint, as Prismatic writes them."""
    if path.suffix == ".pt":
        return path.is_file()
    return (path / CONFIG).is_file() and (path / CHECKPOINTS).is_dir() and any((path / CHECKPOINTS).glob("*.pt"))


def find_prismatic_run(path: Path) -> PrismaticRun:
    """
    Read what a run folder holds, without its tensors.

    Args:
        path: A run folder (then its latest checkpoint), or a checkpoint inside of one.

    Raises:
        UserError: There is no such folder, or it names a backbone that is not known.
    """
    folder = path.parent.parent if path.suffix == ".pt" else path
    checkpoint = path if path.suffix == ".pt" else _latest(folder)
    try:
        values = read_json_object(folder / CONFIG)["model"]
        return PrismaticRun(_to_config(values), checkpoint)
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG}: not the configuration of a Prismatic run ({error!r})") from error
    except ValueError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from error


def download_prismatic_run(model_id: str) -> PrismaticRun:
    """
    The run that was released under `model_id`, from the cache or the hub.

    Raises:
        WeightsNotFound: It can't be had.
    """
    try:
        files = [hub_file(REPOSITORY, f"{model_id}/{name}") for name in (CONFIG, f"{CHECKPOINTS}/{LATEST}")]
    except WeightsNotFound as error:
        raise WeightsNotFound(f"{error}; pass a folder with {CONFIG} and {CHECKPOINTS}/{LATEST}") from None
    values = json.loads(files[0].read_text(encoding="utf-8"))["model"]
    return PrismaticRun(_to_config(values), files[1])


def _latest(folder: Path) -> Path:
    if (folder / CHECKPOINTS / LATEST).is_file():
        return folder / CHECKPOINTS / LATEST
    steps = {int(match[1]): path for path in (folder / CHECKPOINTS).glob("*.pt") if (match := _STEP.match(path.name))}
    if not steps:
        raise UserError(f"{folder}: holds no {CHECKPOINTS}/{LATEST}")
    return steps[max(steps)]


def _to_config(values: Mapping[str, Any]) -> PrismaticConfig:
    """The configuration that the published fields stand for; its backbones are those that they name."""
    known = ModelConfig.get_known_choices().get(values["model_id"])
    base = known() if known is not None and issubclass(known, PrismaticConfig) else PrismaticConfig()
    return replace(
        base,
        vision_backbone=_choice(VisionBackboneConfig, "vision_backbone_id", values),
        llm_backbone=_choice(CausalLMConfig, "llm_backbone_id", values),
        arch_specifier=values["arch_specifier"],
        processor=replace(
            base.processor,
            image_resize_strategy=values["image_resize_strategy"],
            max_length=values["llm_max_length"],
        ),
    )


def _choice(base: Any, field: str, values: Mapping[str, Any]) -> Any:
    if values[field] not in available(base):
        raise ValueError(f"model.{field}: {choices_text(values[field], available(base))}")
    return base.get_choice_class(values[field])()


def read_prismatic(checkpoint: Path) -> Groups:
    """
    The tensors of a checkpoint, which stay on the disk until they are used.

    Raises:
        UserError: It can't be read, or is of another kind.
    """
    try:
        check_not_compressed(checkpoint)
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        groups = {name: dict(tensors) for name, tensors in content["model"].items()}
        if not all(isinstance(value, Tensor) for tensors in groups.values() for value in tensors.values()):
            raise TypeError("holds more than tensors")
    except Exception as error:  # of whatever kind the unpickler stumbles over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{checkpoint}: can't be read as a Prismatic checkpoint ({reason})") from error
    return {
        group: {name: value for name, value in tensors.items() if not name.endswith(_CONSTANTS)}
        for group, tensors in groups.items()
    }


def load_prismatic(model: nn.Module, checkpoint: Path) -> list[str]:
    """
    Load the module groups that a checkpoint holds into a model; the others stay as they are.

    Returns:
        Names of the groups that were loaded.

    Raises:
        UserError: A tensor is missing, unexpected or of another shape; one line with its name. Nothing was loaded then.
    """
    groups = read_prismatic(checkpoint)
    state = _check(model, groups, checkpoint)
    with torch.no_grad():
        for group, tensors in groups.items():
            for name, value in tensors.items():
                state[f"{group}.{name}"].copy_(value)
    return list(groups)


def _check(model: nn.Module, groups: Groups, checkpoint: Path) -> dict[str, Tensor]:
    """The model's own tensors, into which all of `groups` fit."""
    state = model.state_dict()
    for group, tensors in groups.items():
        own = {name.removeprefix(f"{group}."): value for name, value in state.items() if name.startswith(f"{group}.")}
        _, report = match_weights(own, tensors)
        if not report.exact:
            raise UserError(f"{checkpoint}: {group} does not fit the model: {report.describe()}")
    return state


def build_prismatic(run: PrismaticRun, dtype: torch.dtype = torch.float32) -> PrismaticVLM:
    """
    The model of a run, with its weights; a vision backbone that the checkpoint leaves out comes from where it was
    published.

    Args:
        run: Its `config.vision_backbone.weights` may name local files of the towers.
        dtype: Of the parameters.

    Raises:
        UserError: The checkpoint doesn't fit its configuration.
        WeightsNotFound: It leaves out the vision backbone, which can't be had elsewhere.
    """
    groups, config = read_prismatic(run.checkpoint), run.config
    for group in config.module_groups:
        if group not in groups and group != VISION:
            raise UserError(f"{run.checkpoint}: holds no weights of {group}, only of {', '.join(groups) or 'nothing'}")
    vision = {} if VISION in groups else _published_vision(run)
    with parameters_on_meta():
        model = PrismaticVLM(config)
    if vision:
        model.vision_backbone = resolve_target(config.vision_backbone)(config.vision_backbone, vision)
    _check(model, groups, run.checkpoint)
    tensors = {f"{group}.{name}": value.to(dtype) for group, part in groups.items() for name, value in part.items()}
    model.load_state_dict(tensors, strict=False, assign=True)
    if config.llm_backbone.tie_embeddings:
        model.llm_backbone.llm.tie_weights()
    return model.to(dtype).eval()


def _published_vision(run: PrismaticRun) -> dict[str, str]:
    backbone = run.config.vision_backbone
    requests = resolve_target(backbone).weight_requests(backbone, VISION)
    try:
        found = find_weights(requests)
    except WeightsNotFound as error:
        problems = str(error).partition("; pass ")[0]
        raise WeightsNotFound(
            f"{run.checkpoint}: holds no weights of {VISION}, and {problems}; pass vision_weights={{tower: file}}"
        ) from error
    return {group.partition(".")[2]: path for group, path in found.items()}


def write_prismatic(
    model: PrismaticVLM, folder: Path, *, stage: str, groups: Sequence[str] | None = None, step: int = 0,
    epoch: int = 0, loss: float | None = None, dtype: torch.dtype = torch.float32,
) -> Path:  # fmt: skip
    """
    Write a run folder that the published code loads.

    Args:
        model: Whole, on any device.
        folder: Is made; a checkpoint of the same name in it is replaced.
        stage: That the model was trained in, for its configuration.
        groups: Module groups to write; None: all. (The published code reads `projector` and `llm_backbone` alone.)
        step: Of the training, for the checkpoint's name; also `epoch` and `loss`.
        dtype: Of the tensors.

    Returns:
        Path of the checkpoint; `latest-checkpoint.pt` beside it is the same.
    """
    state = model.state_dict()
    content = {
        group: {
            name.removeprefix(f"{group}."): value.detach().to("cpu", dtype).contiguous()
            for name, value in state.items()
            if name.startswith(f"{group}.")
        }
        for group in groups or model.config.module_groups
    }
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    values = {"model": to_published(model.config), "stage": stage}
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    name = f"step-{step:06d}-epoch-{epoch:02d}-loss={'inf' if loss is None else f'{loss:.4f}'}.pt"
    for target in (folder / CHECKPOINTS / name, folder / CHECKPOINTS / LATEST):
        beside = target.with_name(target.name + ".tmp")
        torch.save({"model": content}, beside)
        beside.replace(target)
    return folder / CHECKPOINTS / name


def to_published(config: PrismaticConfig) -> dict[str, Any]:
    """A configuration under the published names: what the published code needs to build the model."""
    return {
        "type": type(config).model_id,
        "model_id": type(config).model_id,
        "arch_specifier": config.arch_specifier,
        "vision_backbone_id": type(config.vision_backbone).backbone_id,
        "llm_backbone_id": type(config.llm_backbone).llm_id,
        "image_resize_strategy": config.processor.image_resize_strategy,
        "llm_max_length": config.processor.max_length,
    }
