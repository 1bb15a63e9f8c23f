"""Weights as safetensors files, one per module group; the same keys whatever strategy trained them.

A key's group is its first component, since module groups are direct children of the model. Tensors that share memory
are written once; the file's metadata says under which other names they are known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

_SUFFIX = ".safetensors"
_ALIAS = "alias:"
_MAX_NAMED = 5


@dataclass
class LoadReport:
    """How the keys in files fitted a model."""

    loaded: int = 0
    missing: list[str] = field(default_factory=list)  # the model has them, the files don't; they keep their values
    unexpected: list[str] = field(default_factory=list)  # the files have them, the model doesn't
    mismatched: list[str] = field(default_factory=list)  # of another shape, "key [model's] != [file's]"; not loaded

    @property
    def exact(self) -> bool:
        """Whether every key fitted."""
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self) -> str:
        """One line that counts the keys of each kind and names the first of them."""
        parts = [f"{self.loaded} tensors loaded"]
        for kind in ("missing", "unexpected", "mismatched"):
            keys = getattr(self, kind)
            if keys:
                more = ", ..." if len(keys) > _MAX_NAMED else ""
                parts.append(f"{len(keys)} {kind} ({', '.join(keys[:_MAX_NAMED])}{more})")
        return "; ".join(parts)

    def raise_unless_exact(self, source: Path | str) -> None:
        """Raise ValueError in one line if a key didn't fit."""
        if not self.exact:
            raise ValueError(f"{source}: weights do not fit the model: {self.describe()}")


def save_groups(state_dict: Mapping[str, Tensor], folder: Path, groups: Iterable[str] | None = None) -> list[Path]:
    """
    Write `<group>.safetensors` for every module group of a state dict.

    Args:
        state_dict: Full tensors by name, on any device.
        folder: Made if it isn't there.
        groups: Which groups to write; None writes all.

    Returns:
        The files written.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    wanted = None if groups is None else set(groups)
    by_group: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state_dict.items():
        by_group.setdefault(key.partition(".")[0], {})[key] = tensor.detach()
    files = []
    for group, tensors in by_group.items():
        if wanted is not None and group not in wanted:
            continue
        kept, aliases = _without_aliases(tensors)
        path = folder / f"{group}{_SUFFIX}"
        metadata = {"format": "pt"} | {f"{_ALIAS}{name}": target for name, target in aliases.items()}
        save_file({key: tensor.contiguous() for key, tensor in kept.items()}, path, metadata=metadata)
        files.append(path)
    return files


def read_groups(folder: Path, groups: Iterable[str] | None = None) -> dict[str, Tensor]:
    """
    The state dict that `save_groups` wrote, on the CPU.

    Args:
        folder: Holds `<group>.safetensors`.
        groups: Which groups to read; None reads all there are.

    Raises:
        FileNotFoundError: A group's file isn't there, or the folder has none.
    """
    from safetensors import safe_open

    present = sorted(path.stem for path in folder.glob(f"*{_SUFFIX}"))
    names = present if groups is None else list(groups)
    lacking = [name for name in names if name not in present]
    if lacking or not names:
        wanted = ", ".join(lacking) or "any module group"
        raise FileNotFoundError(f"{folder}: no weights of {wanted} (there are: {', '.join(present) or 'none'})")
    tensors: dict[str, Tensor] = {}
    for name in names:
        with safe_open(folder / f"{name}{_SUFFIX}", framework="pt", device="cpu") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}
            for entry, target in (file.metadata() or {}).items():
                if entry.startswith(_ALIAS):
                    tensors[entry.removeprefix(_ALIAS)] = tensors[target]
    return tensors


@torch.no_grad()
def load_groups(model: nn.Module, folder: Path, groups: Iterable[str] | None = None) -> LoadReport:
    """
    Copy weights that `save_groups` wrote into a model; whatever doesn't fit is left as it is and reported.

    Args:
        model: Filled in place, in its own dtypes and on its own device.
        folder: Holds `<group>.safetensors`.
        groups: Which groups to load; None loads all there are.

    Returns:
        What fitted; of groups that were asked for, what the files lack. With `groups=None`, of all groups.

    Raises:
        FileNotFoundError: A group's file isn't there, or the folder has none.
    """
    groups = None if groups is None else list(groups)
    tensors = read_groups(folder, groups)
    target = model.state_dict()
    report = LoadReport()
    fitting: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if key not in target:
            report.unexpected.append(key)
        elif target[key].shape != tensor.shape:
            report.mismatched.append(f"{key} {list(target[key].shape)} != {list(tensor.shape)}")
        else:
            fitting[key] = tensor
    report.missing = [
        key for key in target if key not in tensors and (groups is None or key.partition(".")[0] in groups)
    ]
    report.loaded = len(fitting)
    model.load_state_dict(fitting, strict=False)
    return report


def _without_aliases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors with memory of their own, and for each name left out the one that it is the same as."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple, str] = {}
    for key, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and place in first:
            aliases[key] = first[place]
        else:
            first[place] = key
            kept[key] = tensor
    pointers = [tensor.untyped_storage().data_ptr() for tensor in kept.values() if tensor.numel()]
    shared = (
        {pointer for pointer in pointers if pointers.count(pointer) > 1} if len(set(pointers)) < len(pointers) else ()
    )
    # views of one storage that aren't the same tensor would be refused by safetensors
    return {key: t.clone() if t.untyped_storage().data_ptr() in shared else t for key, t in kept.items()}, aliases
