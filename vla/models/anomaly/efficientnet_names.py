"""Names of EfficientNet-b4's tensors: as the original PyTorch port (and UniAD) has them, and as timm."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from vla.models.weights.files import read_state_dict

_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+?)\.(.+)")
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand", "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_PLAIN = _EXPANDED | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # blocks of stage 0 do not expand


def timm_name(name: str, depths: Iterable[int]) -> str:
    """The name in timm of a tensor that the port calls `name`.

    Args:
        name: e.g. `_blocks.6._depthwise_conv.weight`, the sixth block counted through all stages.
        depths: blocks of each stage.

    Raises:
        KeyError: the port has no such tensor.
    """
    match = _BLOCK.fullmatch(name)
    if match is None:
        head, _, tail = name.partition(".")
        return f"{_OUTSIDE[head]}.{tail}"
    number = int(match[1])
    for stage, depth in enumerate(depths):
        if number < depth:
            return f"blocks.{stage}.{number}.{(_EXPANDED if stage else _PLAIN)[match[2]]}.{match[3]}"
        number -= depth
    raise KeyError(name)


def to_port_names(state: Mapping[str, Tensor], depths: Iterable[int]) -> dict[str, Tensor]:
    """`state`, under timm's names, as the port calls it.

    Raises:
        KeyError: the port has no such tensor.
    """
    depths = list(depths)
    outside = {theirs: ours for ours, theirs in _OUTSIDE.items()}
    names = {
        f"blocks.{stage}.{block}.{theirs}": f"_blocks.{sum(depths[:stage]) + block}.{ours}"
        for stage, depth in enumerate(depths)
        for block in range(depth)
        for ours, theirs in (_EXPANDED if stage else _PLAIN).items()  # of two names the later one, that of stage 0
    }
    renamed = {}
    for name, value in state.items():
        stem, _, tail = name.rpartition(".")
        renamed[f"{(names | outside)[stem]}.{tail}"] = value
    return renamed


def to_timm_names(state: Mapping[str, Tensor], depths: Iterable[int]) -> dict[str, Tensor]:
    """`state` under timm's names, whichever of the two it has; unknown names are kept."""
    depths = list(depths)
    renamed = {}
    for name, value in state.items():
        try:
            renamed[timm_name(name, depths)] = value
        except KeyError:
            renamed[name] = value
    return renamed


def read_efficientnet_b4(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """
    The tensors of a file of EfficientNet-b4 under timm's names.

    Args:
        path: Of a file or folder with a state dict, of which nothing is executed; with timm's names or the port's.
        network: timm's, whole.

    Raises:
        ValueError: it can't be read, or a tensor is missing or has another shape.
    """
    stored = read_state_dict(path)
    wanted = network.state_dict()
    found = to_timm_names(stored, [len(stage) for stage in network.blocks])  # type: ignore[union-attr]
    for name, place in wanted.items():
        if name.endswith("num_batches_tracked"):  # of no use, and not in every file
            found.setdefault(name, place)
        if name not in found:
            raise ValueError(f"has no {name} of EfficientNet-b4")
        if found[name].shape != place.shape:
            raise ValueError(f"{name} is {list(found[name].shape)} where EfficientNet-b4's is {list(place.shape)}")
    return {name: found[name] for name in wanted}
