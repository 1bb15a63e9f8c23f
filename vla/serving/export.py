"""Checkpoints for other code bases."""

from collections.abc import Callable
from pathlib import Path

from vla.conf.convert import ExportConfig, MergeConfig
from vla.conf.models import ModelConfig, PrismaticConfig
from vla.conf.models.anomaly_parts import EfficientNetB4PartConfig
from vla.conf.models.atlas import AtlasVLAConfig
from vla.conf.models.nanovlm import NanoVLMConfig
from vla.conf.models.openvla import OpenVLAConfig
from vla.conf.models.uniad import UniADConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.dataset_statistics import dump_dataset_statistics
from vla.data.materialize import load_processor
from vla.data.processor import Processor
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.models.lora import adapters, merge_lora
from vla.models.vlas.openvla import OpenVLA
from vla.models.weights.adapters import merge_adapter, write_adapter
from vla.models.weights.openvla import published_name
from vla.overwatch import initialize_overwatch
from vla.training.checkpoint_files import read_manifest
from vla.training.checkpoint_store import find_checkpoint
from vla.training.inference import load_for_inference
from vla.training.precision import DTYPES

overwatch = initialize_overwatch(__name__)

Exporter = Callable[[ExportConfig, PretrainConfig, BaseModel, Path], Path]


def export(config: ExportConfig) -> int:
    """Write what `config` says.

    Returns:
        Exit code, 0.

    Raises:
        UserError: there is no complete checkpoint, its model has no published layout, or a module group is unknown.
    """
    assert config.checkpoint is not None and config.output is not None
    folder = find_checkpoint(config.checkpoint, prefer="best")
    run, _, model = load_for_inference(folder)
    exporter = _exporter(run)
    unknown = [group for group in config.groups if group not in model.module_groups()]
    if unknown:
        raise UserError(f"groups: must be of {', '.join(model.module_groups())}, got {unknown[0]!r}")
    if isinstance(model, OpenVLA) and any(adapters(model)):
        towers = list(model.vision_backbone.towers)
        lora, base = model.config.lora, model.config.weights
        write_adapter(model, lora, config.output / "lora_adapter", lambda name: published_name(name, towers), base)
    merge_lora(model)
    written = exporter(config, run, model, folder)
    overwatch.info(f"{folder} is written as {written}")
    return 0


def merge(config: MergeConfig) -> int:
    """Add adapters to the model that they were trained on, as `config` says.

    Returns:
        Exit code, 0.

    Raises:
        UserError: the folders are incomplete, or of different models.
    """
    assert config.base is not None and config.adapter is not None and config.output is not None
    count = merge_adapter(config.base, config.adapter, config.output)
    overwatch.info(f"{count} adapters of {config.adapter} added to {config.base}: {config.output}")
    return 0


def _exporter(run: PretrainConfig) -> Exporter:
    """What writes models of the run's family."""
    for family, exporter in EXPORTERS.items():
        if isinstance(run.model, family):
            return exporter
    names = ", ".join(family.system for family in EXPORTERS)
    raise UserError(f"checkpoint: must be of {names}, got one of {type(run.model).model_id}")


def _export_prismatic(config: ExportConfig, run: PretrainConfig, model: BaseModel, folder: Path) -> Path:
    from vla.models.vlms.prismatic import PrismaticVLM
    from vla.models.weights.prismatic import write_prismatic

    assert isinstance(model, PrismaticVLM) and config.output is not None
    manifest = read_manifest(folder)
    return write_prismatic(
        model, config.output, stage=run.stage.value, groups=config.groups or None, step=manifest["global_step"],
        epoch=int(manifest["epoch"]), dtype=DTYPES[config.precision],
    )  # fmt: skip


def _export_openvla(config: ExportConfig, run: PretrainConfig, model: BaseModel, folder: Path) -> Path:
    from vla.models.weights.openvla_export import write_openvla

    assert isinstance(model, OpenVLA) and config.output is not None
    _refuse_groups(config, "OpenVLA's")
    processor = load_processor(folder)
    assert isinstance(processor, Processor)
    name = type(run.dataset).dataset_id.replace("-", "_")
    statistics = {name: dump_dataset_statistics(processor.statistics, num_trajectories=0)}
    step = read_manifest(folder)["global_step"]
    return write_openvla(model, config.output, statistics, dtype=DTYPES[config.precision], step=step)


def _export_nanovlm(config: ExportConfig, run: PretrainConfig, model: BaseModel, folder: Path) -> Path:
    from vla.models.weights.nanovlm import save_published

    assert isinstance(run.model, NanoVLMConfig) and config.output is not None
    _refuse_groups(config, "nanoVLM's")
    save_published(model, run.model, config.output, DTYPES[config.precision])
    return config.output


def _export_vggt(config: ExportConfig, run: PretrainConfig, model: BaseModel, folder: Path) -> Path:
    """The vision backbone alone: VGGT's layout has no place for a policy."""
    from vla.models.backbones.vggt import VGGTBackbone
    from vla.models.vggt.weights import save_vggt

    assert config.output is not None
    backbone = model.module_groups()["vision_backbone"]
    assert isinstance(backbone, VGGTBackbone)
    if config.groups not in ((), ("vision_backbone",)):
        raise UserError(f"groups: VGGT's layout holds the vision_backbone alone, got {', '.join(config.groups)}")
    return save_vggt(backbone, config.output, DTYPES[config.precision])


def _export_uniad(config: ExportConfig, run: PretrainConfig, model: BaseModel, folder: Path) -> Path:
    from vla.models.anomaly.published import save_published

    assert isinstance(run.model, UniADConfig) and config.output is not None
    _refuse_groups(config, "UniAD's")
    if config.precision != "fp32":
        raise UserError(f"precision: UniAD's checkpoints are in fp32, got {config.precision!r}")
    if not isinstance(run.model.net[0], EfficientNetB4PartConfig):
        kind = type(run.model).model_id
        raise UserError(f"checkpoint: UniAD's layout is for an EfficientNet-b4 backbone, got one of {kind}")
    path = config.output / "ckpt.pth.tar"
    save_published(model, path, int(read_manifest(folder)["epoch"]))
    return path


def _refuse_groups(config: ExportConfig, whose: str) -> None:
    if config.groups:
        raise UserError(f"groups: {whose} layout holds whole models, got {', '.join(config.groups)}")


EXPORTERS: dict[type[ModelConfig], Exporter] = {
    PrismaticConfig: _export_prismatic, OpenVLAConfig: _export_openvla, NanoVLMConfig: _export_nanovlm,
    AtlasVLAConfig: _export_vggt, UniADConfig: _export_uniad,
}  # fmt: skip
