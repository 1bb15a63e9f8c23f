"""Golden cases of UniAD, and its parts with their weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from easydict import EasyDict
from safetensors import safe_open
from torch import Tensor

from vla.conf.models.anomaly_parts import NeighborMaskConfig, ReconstructionConfig
from vla.models.anomaly.neck import MFCN
from vla.models.anomaly.reconstruction import Reconstruction

GOLDEN = Path(__file__).parents[2] / "golden/uniad"
ATOL = 2e-5


class Golden(NamedTuple):
    """A file of recorded numbers."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def outputs(self, prefix: str) -> dict[str, Tensor]:
        """What is named `<prefix>.<key>`, by key."""
        return {
            name.removeprefix(f"{prefix}."): value for name, value in self.tensors.items() if name.startswith(prefix)
        }


def read_golden(name: str) -> Golden:
    with safe_open(GOLDEN / name, "pt") as file:
        return Golden(json.loads(file.metadata()["config"]), {key: file.get_tensor(key) for key in file.keys()})


def reconstruction_config(values: dict[str, Any], mask: list[bool] | None) -> ReconstructionConfig:
    """The configuration that a golden file's sizes stand for."""
    neighbors = None if mask is None else NeighborMaskConfig(tuple(values["neighbor_size"]), tuple(mask))
    names = ("hidden_dim", "nhead", "num_encoder_layers", "num_decoder_layers", "dim_feedforward", "normalize_before")
    sizes = {name: values[name] for name in names}
    return ReconstructionConfig(**sizes, pos_embed_type=values["pos_embed_type"], dropout=0.0, neighbor_mask=neighbors)


def make_neck(values: dict[str, Any]) -> MFCN:
    return MFCN(EasyDict(inplanes=values["inplanes"], instrides=values["instrides"], outstrides=[values["outstride"]]))


def make_reconstruction(golden: Golden, mask: list[bool] | None) -> Reconstruction:
    """The transformer with the file's weights, in evaluation mode."""
    values = golden.config
    options = EasyDict(asdict(reconstruction_config(values, mask)))
    options.update(inplanes=[sum(values["inplanes"])], instrides=[values["outstride"]])
    options.input_size = [side * values["outstride"] for side in values["feature_size"]]
    module = Reconstruction(options)
    module.load_state_dict(golden.outputs("state_dict.reconstruction"))
    return module.eval()
