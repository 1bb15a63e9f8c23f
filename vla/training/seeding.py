"""Random number generators: seeding, and their state as plain tensors so that a checkpoint needs no pickle."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch (all devices). Processes draw different numbers: `rank` is mixed in."""
    mixed = (seed * 1_000_003 + rank) % 2**32
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def set_deterministic(enabled: bool) -> None:
    """Use deterministic kernels only; torch raises RuntimeError where there is none."""
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when its handle is made
    if enabled != torch.are_deterministic_algorithms_enabled():  # saying what holds already costs a second of imports
        torch.use_deterministic_algorithms(enabled)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = enabled


def get_rng_state() -> dict[str, Tensor]:
    """State of every generator of this process; the keys are `rng.python`, `rng.numpy`, `rng.torch`, `rng.cuda`."""
    _, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    keys, position = numpy_state["state"]["key"], numpy_state["state"]["pos"]
    state = {
        "rng.python": torch.tensor(words, dtype=torch.int64),
        "rng.python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "rng.numpy": torch.from_numpy(np.concatenate([keys.astype(np.int64), [position, numpy_state["has_gauss"]]])),
        "rng.numpy_gauss": torch.tensor([numpy_state["gauss"]], dtype=torch.float64),
        "rng.torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["rng.cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Tensor]) -> None:
    """Undo what happened to the generators since `get_rng_state` gave `state`."""
    gauss = state["rng.python_gauss"].tolist()
    random.setstate((3, tuple(state["rng.python"].tolist()), gauss[0] if gauss else None))
    *keys, position, has_gauss = state["rng.numpy"].tolist()
    cached = state["rng.numpy_gauss"].item()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["rng.torch"])
    if "rng.cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["rng.cuda"])


@contextmanager
def preserved_rng() -> Iterator[None]:
    """What happens inside draws from the generators, but what follows draws as if it had not happened."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)
