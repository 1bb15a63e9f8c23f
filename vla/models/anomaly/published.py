"""UniAD's published checkpoints (`ckpt.pth.tar`): read without running anything in them, and put into the model.

Such a file is a pickle, of the zip format or the older one, that names classes of `easydict` and numbers of `numpy`.
PyTorch's restricted unpickler reads it, with stand-ins for these that only hold data; whatever else a file names is an
error. Of `module.backbone.*` and `module.reconstruction.*` the names of the latter are the model's own.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vla.errors import UserError
from vla.models.anomaly.efficientnet_names import to_port_names, to_timm_names
from vla.models.weights.files import check_not_compressed
from vla.models.weights.report import LoadReport, match_weights
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

FIELD = "model.published_checkpoint"
PREFIXES = {"backbone": "vision_backbone", "reconstruction": "reconstruction"}  # theirs: ours
_HEAD = ("conv_head.", "bn2.", "classifier.")  # of the backbone, after all maps
_NUMBERS = "biuf"  # kinds of NumPy scalars that may be in a file


class _Data:
    """Stands for `easydict.EasyDict`: its items alone. The unpickler fills no other dictionaries than Python's own."""

    def __new__(cls) -> Any:
        return OrderedDict()


class _DType:
    """Stands for `numpy.dtype`: a number type by name."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = str(name)

    def __setstate__(self, state: Any) -> None:
        self.name = str(state[1]).replace("|", "") + self.name


def _scalar(kind: _DType, data: bytes) -> float:
    """Stands for `numpy.core.multiarray.scalar`."""
    dtype = np.dtype(kind.name)
    if dtype.kind not in _NUMBERS:
        raise UnpicklingError(f"a scalar of type {kind.name}")
    return np.frombuffer(data, dtype)[0].item()


STAND_INS = [
    (_Data, "easydict.EasyDict"),
    (_DType, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a file holds."""

    state: dict[str, Tensor]  # as named there, without `module.`
    epoch: int | None
    best_metric: float | None


def read_published(path: Path) -> PublishedCheckpoint:
    """
    Read a checkpoint; nothing in it is executed.

    Raises:
        UserError: It is no checkpoint of UniAD, or names something that is not data.
    """
    try:
        check_not_compressed(path)
        with torch.serialization.safe_globals(STAND_INS):  # type: ignore[arg-type]
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of whatever kind the unpickler stumbles over
        cause = error.__context__ or error  # PyTorch's own message advises to load the file without restrictions
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise UserError(f"{FIELD}: {path} can't be read: {reason}") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{FIELD}: {path} holds no state_dict of tensors")
    epoch, best = content.get("epoch"), content.get("best_metric")
    return PublishedCheckpoint(
        {name.removeprefix("module."): value for name, value in state.items()},
        epoch if isinstance(epoch, int) else None,
        float(best) if isinstance(best, int | float) else None,
    )


def load_published(model: nn.Module, path: Path) -> LoadReport:
    """
    Put a published checkpoint into `model`, a UniAD of the same sizes.

    Returns:
        How its tensors fitted. Parts of the backbone after its last map are skipped.

    Raises:
        UserError: The file can't be read, or doesn't fit; the message names tensors.
    """
    checkpoint = read_published(path)
    depths = [len(stage) for stage in model.vision_backbone.blocks]  # type: ignore[union-attr]
    weights, skipped = rename(checkpoint.state, depths)
    target = model.state_dict()
    fitting, report = match_weights(target, weights, skipped)
    if not report.exact:
        raise UserError(f"{FIELD}: {path} is of another net: {report.describe()}")
    model.load_state_dict(fitting)
    overwatch.info(f"{path}: {report.describe()}, {len(skipped)} of the backbone's end left out")
    return report


def save_published(model: nn.Module, path: Path, epoch: int = 0) -> None:
    """
    Write a checkpoint as UniAD does, in plain values: `epoch`, `arch` and `state_dict` with DDP's prefix.

    Args:
        model: A UniAD with an EfficientNet-b4. Parts of it after the last map, which nothing uses, are not in the file.
        path: Is replaced; its folder is made if need be.
        epoch: That the training had reached.
    """
    depths = [len(stage) for stage in model.vision_backbone.blocks]  # type: ignore[union-attr]
    own = PREFIXES["backbone"] + "."
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    backbone = {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
    published = {f"module.backbone.{name}": value for name, value in to_port_names(backbone, depths).items()}
    published |= {f"module.{name}": value for name, value in state.items() if not name.startswith(own)}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    torch.save({"epoch": epoch, "arch": [], "state_dict": published, "best_metric": 0.0}, beside)
    beside.replace(path)


def rename(state: Mapping[str, Tensor], depths: list[int]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """
    The tensors under this toolkit's names, and the names of those that belong to later parts of the backbone.

    Args:
        state: Without `module.`.
        depths: Blocks of each stage that the model's backbone has.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = value
    backbone = to_timm_names(groups.pop("backbone", {}), depths)
    later = tuple(name for name in backbone if name.startswith((*_HEAD, "_blocks.")))
    renamed = {f"{PREFIXES['backbone']}.{name}": value for name, value in backbone.items() if name not in later}
    for group, tensors in groups.items():
        renamed |= {f"{PREFIXES.get(group, group)}.{name}": value for name, value in tensors.items()}
    return renamed, later
