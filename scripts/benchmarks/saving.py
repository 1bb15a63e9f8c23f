"""How long the training waits for a checkpoint: written in the background from a copy, against written at once.

    python scripts/bench.py saving --parameters 50 --repeat 5 --save

A model of `parameters` million numbers with the state of AdamW (12 bytes each) is saved, nothing else goes on.
`stall_s` is how long the loop stands still (median; of the second save on, whose memory for the copy is there),
`written_s` until the checkpoint is there, `checksums_s` the part of it that SHA-256 takes.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vla.training.checkpoint_files import CheckpointWriter, checksum
from vla.training.saving import DeferredWriter


def run(parameters: float = 50, repeat: int = 5, folder: str = "") -> dict[str, Any]:
    """Save several times in both ways, in turn.

    Args:
        parameters: of the model, in millions.
        repeat: measured saves of each way.
        folder: where checkpoints go; none: a temporary one. What is measured is this disk.
    """
    count = int(parameters * 1e6) // 8
    weights = {f"layer{i}.weight": torch.randn(count) for i in range(8)}
    state = {f"{name}.{key}": torch.randn(count) for name in weights for key in ("exp_avg", "exp_avg_sq")}
    buffers: dict[tuple[str, str], Tensor] = {}
    times: dict[str, list[tuple[float, float]]] = {"blocking": [], "asynchronous": []}
    with tempfile.TemporaryDirectory(dir=folder or None) as root:
        place = Path(root) / "step-000001"
        for _ in range(repeat + 1):
            start = time.perf_counter()
            _give(CheckpointWriter(place), weights, state)
            times["blocking"].append((time.perf_counter() - start,) * 2)
            deferred = DeferredWriter(place, buffers=buffers)
            start = time.perf_counter()
            _give(deferred, weights, state)
            stall = time.perf_counter() - start
            deferred.finish()
            times["asynchronous"].append((stall, time.perf_counter() - start))
        files = [path for path in place.rglob("*") if path.is_file()]
        start = time.perf_counter()
        for path in files:
            checksum(path)
        hashing = time.perf_counter() - start
        size = sum(path.stat().st_size for path in files)
    rows = [
        {
            "name": name,
            "stall_s": statistics.median(stall for stall, _ in measured[1:]),
            "written_s": statistics.median(written for _, written in measured[1:]),
        }
        for name, measured in times.items()
    ]
    return {
        "rows": rows,
        "baseline": "blocking",
        "measure": "stall_s",
        "checkpoint_MB": size / 1e6,
        "checksums_s": hashing,
    }


def _give(writer: CheckpointWriter, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    with writer:
        writer.tensors("model/all.safetensors", weights)
        writer.tensors("trainer/optimizer.safetensors", state)
        writer.commit({"global_step": 1, "groups": ["all"]})
