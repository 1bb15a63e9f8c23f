"""Models in OpenVLA's Hugging Face layout as policies, without a training run of this toolkit."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.conf.datasets import LiberoFolderConfig
from vla.conf.models.openvla import OpenVLA7BConfig, OpenVLAConfig
from vla.conf.models.openvla_oft import OpenVLAOFT7BConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.conventions import LIBERO_CONVENTIONS
from vla.data.dataset_statistics import parse_dataset_statistics
from vla.data.processor import Processor
from vla.models.base import BaseModel
from vla.models.materialize import get_model
from vla.models.weights.openvla import OpenVLAFolder, open_openvla
from vla.models.weights.openvla_oft import is_oft_folder, oft_config

_IMAGE_SHAPE = (256, 256)  # pixels of the pictures that published models were fine-tuned on


def load_published(path: Path, unnorm_key: str | None = None) -> tuple[PretrainConfig, Processor, BaseModel, str]:
    """
    What a published folder needs to act in LIBERO.

    Args:
        path: a folder in OpenVLA's Hugging Face layout, with OFT's files or without.
        unnorm_key: the dataset whose statistics its actions are in; may be None where there is only one.

    Returns:
        A configuration as of a run, the Processor, the model in evaluation mode, and its fingerprint.

    Raises:
        UserError: the folder is incomplete, or has no statistics of the dataset.
    """
    opened = open_openvla(path)
    config = published_config(opened)
    found = parse_dataset_statistics(opened.statistics, unnorm_key, str(path))
    conventions = replace(LIBERO_CONVENTIONS, image_shape=_IMAGE_SHAPE)
    processor = Processor(config.processor, config.chunk_size, found.statistics, conventions)
    run = PretrainConfig(model=config, dataset=LiberoFolderConfig())
    return run, processor, get_model(config).eval(), _fingerprint(path, found.name)


def published_config(opened: OpenVLAFolder) -> OpenVLAConfig:
    """The configuration that a folder's files stand for."""
    vision = opened.vision_backbone
    parts: dict[str, Any] = {
        "weights": str(opened.path), "vision_backbone": vision, "llm_backbone": opened.llm_backbone,
        "arch_specifier": opened.values["arch_specifier"],
    }  # fmt: skip
    if is_oft_folder(opened.path):
        oft = OpenVLAOFT7BConfig()
        processor = replace(oft.processor, image_size=vision.image_size)
        return oft_config(opened.path, replace(oft, processor=processor, **parts))
    plain = OpenVLA7BConfig()
    return replace(plain, processor=replace(plain.processor, image_size=vision.image_size), **parts)


def _fingerprint(path: Path, dataset: str) -> str:
    digest = hashlib.sha256(dataset.encode())
    for file in sorted(item for item in path.iterdir() if item.suffix in (".json", ".safetensors", ".pt")):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(2**24):
                digest.update(block)
    return digest.hexdigest()[:16]
