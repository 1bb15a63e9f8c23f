"""The names that nanoVLM's published runs have: models, processes, batch, steps, learning rates and date in one."""

import re
import time
from dataclasses import replace

from vla.conf.models.nanovlm import LANGUAGE, PROJECTOR, VISION, NanoVLMConfig
from vla.conf.pretrain import PretrainConfig
from vla.errors import UserError
from vla.overwatch.launch import restart_count
from vla.training.checkpoint_store import CheckpointStore

PUBLISHED = "published"  # as run_id
_DATE = re.compile(r"_\d{4}-\d{6}")


def with_run_name(config: PretrainConfig, world_size: int) -> PretrainConfig:
    """`config`, with the published name in the place of `run_id: published`.

    With `resume: auto` it is the newest run of the same name but for its date that has a checkpoint, if there is one.
    Started again by its launcher, the run keeps the name that it had: that of the newest, with or without a checkpoint.

    Raises:
        UserError: the model is none of nanoVLM's.
    """
    if config.run_id != PUBLISHED:
        return config
    if not isinstance(config.model, NanoVLMConfig):
        name = type(config.model).model_id
        raise UserError(f"run_id: must be a name of your own: {PUBLISHED} is for nanoVLM's models, got model '{name}'")
    name = published_run_name(config, world_size)
    again = restart_count() > 0
    found = _newest(config, name, begun=again) if again or config.resume == "auto" else None
    return replace(config, run_id=found or name + _date())


def published_run_name(config: PretrainConfig, world_size: int) -> str:
    """`nanoVLM_<vision>_<side>_mp<shuffle>_<language>_<N>xGPU_bs<B>_<steps>_lr_vision_<a>-language_<b>-<c>`, dateless.

    A learning rate is that of the module group while the schedule's factor is 1; 0 where the group is frozen. Runs
    whose length is set in epochs have these (`2epochs`) in the place of steps.
    """
    model, stage = config.model, config.stage_config
    assert isinstance(model, NanoVLMConfig)
    rates = {
        group: stage.learning_rate * stage.lr_multipliers.get(group, 1.0) if group in stage.trained_groups else 0.0
        for group in (VISION, LANGUAGE, PROJECTOR)
    }
    vision = next(iter(model.vision_backbone.weights.values()), None) or type(model.vision_backbone).backbone_id
    parts = [
        "nanoVLM", _last(vision), str(model.processor.max_image_side), f"mp{model.pixel_shuffle}",
        _last(model.llm_backbone.weights or type(model).model_id), f"{world_size}xGPU",
        f"bs{stage.global_batch_size}", str(stage.max_steps or f"{stage.epochs}epochs"), "lr", "vision",
        f"{rates[VISION]:.6g}-language", f"{rates[LANGUAGE]:.6g}-{rates[PROJECTOR]:.6g}",
    ]  # fmt: skip
    return "_".join(parts)


def _last(name: str) -> str:
    """The last part of a Hugging Face id or path."""
    return name.rstrip("/").rpartition("/")[2]


def _date() -> str:
    return time.strftime("_%m%d-%H%M%S")


def _newest(config: PretrainConfig, name: str, begun: bool) -> str | None:
    """The run that changed last among those of this name: with a checkpoint, or that have just `begun`."""
    root = config.run_root_dir
    found = [
        path for path in (root.iterdir() if root.is_dir() else ())
        if path.name.startswith(name) and _DATE.fullmatch(path.name[len(name) :])
        and (begun or CheckpointStore(path).steps())
    ]  # fmt: skip
    return max(found, key=lambda path: (path.stat().st_mtime, path.name)).name if found else None
