"""Golden cases of nanoVLM, and the reduced models that they were recorded with."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from vla.batches import IGNORE_INDEX, PackedBatch
from vla.conf.models.nanovlm import NanoVLMConfig, NanoVLMTinyConfig
from vla.conf.models.nanovlm_published import from_published
from vla.models.vlms.nanovlm import NanoVLM
from vla.models.weights.nanovlm import tensors_from_published

GOLDEN = Path(__file__).resolve().parent / "golden" / "nanovlm"


@dataclass
class Case:
    """A recorded model with its inputs and outputs."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @property
    def config(self) -> NanoVLMConfig:
        return from_published(json.loads(self.metadata["config"]), NanoVLMTinyConfig())

    @property
    def weights(self) -> dict[str, Tensor]:
        """Under their published names."""
        return {name[2:]: value for name, value in self.tensors.items() if name.startswith("w.")}

    def model(self, **options: Any) -> NanoVLM:
        """With the recorded weights, in evaluation mode."""
        config = replace(self.config, **options)
        model = NanoVLM(config)
        model.load_state_dict(tensors_from_published(self.weights, tied=config.llm_backbone.tie_embeddings))
        return model.eval()

    def batch(self, rows: list[int] | None = None) -> PackedBatch:
        """Its inputs, or some rows of them, as the published code sees them: a row is one document."""
        rows = list(range(len(self.tensors["in.input_ids"]))) if rows is None else rows
        ids = self.tensors["in.input_ids"][rows]
        tiles = json.loads(self.metadata["tiles_per_image_per_row"])
        per_row = self.tensors["in.images"].split([sum(images) for images in tiles])
        labels = torch.full_like(ids, IGNORE_INDEX)
        labels[:, 1:] = self.tensors["in.targets"][rows][:, :-1]  # recorded ones stand where they are predicted
        return PackedBatch(
            sample_ids=torch.tensor(rows),
            input_ids=ids,
            attention_mask=self.tensors["in.attention_mask"][rows].bool(),
            labels=labels,
            pixel_values={"siglip": torch.cat([per_row[row] for row in rows])},
            is_multimodal=torch.tensor([bool(tiles[row]) for row in rows]),
            document_ids=torch.arange(len(rows))[:, None].expand_as(ids),
            position_ids=torch.arange(ids.shape[1]).expand_as(ids),
            image_mask=ids == int(self.metadata["image_token_id"]),
        )


def read_case(name: str) -> Case:
    """A case by the stem of its file."""
    path = GOLDEN / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        return Case(load_file(path), file.metadata())


def read_golden(name: str) -> Any:
    """Content of a JSON file by its stem."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
