"""Features of samples in memory-mapped files, so that runs that share a frozen backbone compute them once."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vla.errors import UserError

_INDEX, _PRESENT = "index.json", "present.npy"

Features = dict[str, Tensor]  # of one sample, by name


class FeatureStore:
    """One row per sample of a dataset and feature name. Several processes may fill the same folder at once.

    A row counts only once it is marked, after it was written; what a killed process left unmarked is computed again.
    The files take the room of all rows from the start where the file system has no sparse files.

    Args:
        folder: of this dataset, these weights and this transform alone (see `fingerprint`).
        num_samples: rows.
        example: of any sample; gives names, shapes and dtypes (torch's that numpy has).

    Raises:
        UserError: the folder can't be written, or holds something else.
    """

    def __init__(self, folder: Path, num_samples: int, example: Features) -> None:
        layout = {name: [str(value.dtype), list(value.shape)] for name, value in example.items()}
        index = {"num_samples": num_samples, "features": layout}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / _INDEX
            if not path.exists():
                _create(folder, num_samples, example)
                beside = path.with_suffix(".writing")
                beside.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
                beside.replace(path)
            if json.loads(path.read_text(encoding="utf-8")) != index:
                raise UserError(f"feature_cache.dir: {folder} holds other features; delete it")
            self._arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in example}
            self._present = np.load(folder / _PRESENT, mmap_mode="r+")
        except (OSError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"feature_cache.dir: {folder} can't be used: {error}") from error

    def __contains__(self, row: int) -> bool:
        return bool(self._present[row])

    def __len__(self) -> int:
        """Rows that are there."""
        return int(self._present.sum())

    def get(self, row: int) -> Features:
        """The features of a sample that is there; copies."""
        return {name: torch.from_numpy(np.array(array[row])) for name, array in self._arrays.items()}

    def put(self, row: int, features: Features) -> None:
        """Write the features of a sample, then mark it."""
        for name, array in self._arrays.items():
            array[row] = features[name].numpy()
        self._present[row] = 1


def _create(folder: Path, num_samples: int, example: Features) -> None:
    for name, value in example.items():
        shape = (num_samples, *value.shape)
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", value.numpy().dtype, shape)
    np.lib.format.open_memmap(folder / _PRESENT, "w+", np.uint8, (num_samples,))


def fingerprint(parts: Mapping[str, str], module: nn.Module) -> str:
    """Hash of everything that features depend on: `parts`, and the values of the module that computes them.

    Where a strategy shards the module, of this process's part of it.
    """
    digest = hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode())
    for name, value in sorted(module.state_dict().items()):
        local = value.to_local() if hasattr(value, "to_local") else value
        digest.update(name.encode())
        digest.update(local.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
