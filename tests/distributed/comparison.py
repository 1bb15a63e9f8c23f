"""Comparing runs that must agree however they were cut among processes."""

from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
import toys
from torch import Tensor

from vla.training.checkpoint_files import read_tensors
from vla.training.checkpoint_store import CheckpointStore


def assert_agree(
    found: Path, expected: Path, names: Collection[str], *, tolerance: float = 1e-5, weights: float | None = None,
    since: int = 0, comparable: Callable[[str, Tensor], Tensor] = lambda name, value: value,
) -> int:  # fmt: skip
    """Fail unless two runs have the same metrics, line by line, and the same weights at the end.

    Args:
        found, expected: run folders.
        names: of the metrics; those that a line of `expected` has not are not asked for.
        tolerance: of metrics, relative and absolute.
        weights: absolute tolerance of weights; None: `tolerance`.
        since: `found` begins after this step of `expected`.
        comparable: gives the part of a tensor, by its name, that is compared.

    Returns:
        Number of lines.
    """
    ours = toys.metrics(found)
    theirs = [line for line in toys.metrics(expected) if line["global_step"] > since]
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        for key in right.keys() & set(names):
            assert left[key] == pytest.approx(right[key], rel=tolerance, abs=tolerance), (key, right["global_step"])
    left, right = _last_weights(found), _last_weights(expected)
    assert left.keys() == right.keys() and right
    for key, value in right.items():
        torch.testing.assert_close(
            comparable(key, left[key]), comparable(key, value), rtol=0, atol=tolerance if weights is None else weights,
            msg=lambda text, key=key: f"{key}: {text}",
        )  # fmt: skip
    return len(ours)


def _last_weights(run_dir: Path) -> dict[str, Tensor]:
    folder = CheckpointStore(run_dir).newest()
    assert folder is not None, run_dir
    tensors = {}
    for path in sorted((folder / "model").iterdir()):
        tensors |= {f"{path.stem}: {name}": value for name, value in read_tensors(path).items()}
    return tensors
