"""`vla convert import`: published models as checkpoint folders of this toolkit, and VGGT as weights to begin with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.conf.convert import ImportConfig
from vla.conf.models import ModelConfig
from vla.conf.models.nanovlm import NanoVLMConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.language.processor import LanguageProcessor
from vla.data.vqa.processor import VQAProcessor
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.models.materialize import get_model
from vla.models.weights.nanovlm import CONFIG_FILE, is_published, read_published_config
from vla.models.weights.openvla import is_openvla_folder
from vla.models.weights.prismatic import build_prismatic, find_prismatic_run, is_prismatic_run
from vla.serving.importing_vggt import find_vggt, import_vggt
from vla.serving.published import load_published
from vla.training.imported import write_imported

Imported = tuple[PretrainConfig, Any, BaseModel]  # configuration as of a run, Processor, model


def import_published(config: ImportConfig) -> int:
    """Write what `config` says.

    Returns:
        Exit code, 0.

    Raises:
        UserError: the input is of no layout that is known, or a part of it can't be had.
    """
    assert config.input is not None and config.output is not None
    reader = _reader(config.input)
    if reader is not None:
        write_imported(*reader(config.input, config), config.output)
    elif (weights := find_vggt(config.input)) is not None:
        import_vggt(config.input, weights, config.output)
    else:
        raise UserError(
            f"input: {config.input} is no folder of Prismatic's, OpenVLA's or nanoVLM's, and no file of VGGT's; "
            "UniAD's checkpoints are for `uniad-checkpoint`"
        )
    print(f"{config.input} is written as {config.output}")
    return 0


def _reader(path: Path) -> Callable[[Path, ImportConfig], Imported] | None:
    """What reads a whole model from `path`; None: nothing does."""
    if not path.exists():
        raise UserError(f"input: there is no {path}")
    if is_openvla_folder(path):
        return _openvla
    may_be_vggt = path.suffix == ".pt" and not (path.parent.parent / CONFIG_FILE).is_file()
    if is_prismatic_run(path) and not may_be_vggt:
        return _prismatic
    return _nanovlm if is_published(path) else None


def _openvla(path: Path, config: ImportConfig) -> Imported:
    run, processor, model, _ = load_published(path, config.unnorm_key)
    return replace(run, model=replace(run.model, weights=None)), processor, model  # type: ignore[call-arg]


def _prismatic(path: Path, config: ImportConfig) -> Imported:
    found = find_prismatic_run(path)
    model_config = found.config
    if type(model_config).model_id not in ModelConfig.get_known_choices():
        raise UserError(f"input: {path} is of a model that is not registered; register its configuration first")
    if config.tokenizer is not None:
        language = replace(model_config.llm_backbone, tokenizer=config.tokenizer)
        model_config = replace(model_config, llm_backbone=language)
    processor = LanguageProcessor.from_config(model_config)  # quick to fail, where the model takes a while
    model = build_prismatic(replace(found, config=model_config))
    return PretrainConfig(model=model_config), processor, model


def _nanovlm(path: Path, config: ImportConfig) -> Imported:
    model_config, processor, model = read_nanovlm(path, config.tokenizer)
    return PretrainConfig(model=replace(model_config, weights=None)), processor, model


def read_nanovlm(path: Path, tokenizer: str | None = None) -> tuple[NanoVLMConfig, VQAProcessor, BaseModel]:
    """Configuration, Processor and model of a folder in nanoVLM's published layout.

    Args:
        path: the folder.
        tokenizer: folder or Hugging Face id of the tokenizer; None: the one that the folder names.

    Raises:
        UserError: a part of it can't be had; one line.
    """
    base = _nearest(read_published_config(path))
    model_config = replace(read_published_config(path, base), weights=str(path), pretrained=True)
    if tokenizer is not None:
        language = replace(model_config.llm_backbone, tokenizer=tokenizer)
        model_config = replace(model_config, llm_backbone=language)
    return model_config, VQAProcessor.from_config(model_config), get_model(model_config)


def _nearest(published: NanoVLMConfig) -> NanoVLMConfig:
    """The registered model whose sizes are a published folder's, else one whose sizes are all replaced."""
    choices = [choice() for choice in ModelConfig.get_known_choices().values() if issubclass(choice, NanoVLMConfig)]

    def sizes(config: Any) -> tuple[Any, ...]:
        vision, language = config.vision_backbone, config.llm_backbone
        return vision.image_size, language.hidden_size, language.num_layers, config.processor.image_tokens

    found = [choice for choice in choices if sizes(choice) == sizes(published)]
    return (found or choices)[0]
