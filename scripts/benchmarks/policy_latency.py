"""Latency of a policy on one observation, whole and by part: p50 and p95.

    python scripts/bench.py policy-latency
    python scripts/bench.py policy-latency --checkpoint runs/quickstart --repeats 200

One observation as the simulator gives it, after a warm-up; everything from the raw frames to the actions in the
simulator's units counts. The instruction's part is computed once per instruction and kept while a policy acts, so it is
shown but is not part of `act`. Actions per second: the chunk's actions over the median of `act`.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _policies import tiny_policy

from vla.batches import ActionBatch
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.serving.policy import Policy

WARM_UP = 5


def run(checkpoint: str | None = None, repeats: int = 50, image_size: int = 256) -> dict[str, Any]:
    """Measure a checkpoint, or vggt-tiny with a chunk of 8.

    Args:
        checkpoint: a run or checkpoint folder.
        repeats: measurements of every part.
        image_size: pixels of the simulator's frames.
    """
    policy = Policy.load(Path(checkpoint)) if checkpoint else tiny_policy()
    config = policy.processor.config
    frames = config.num_frames * len(config.cameras)
    images = np.random.default_rng(0).integers(0, 255, (frames, image_size, image_size, 3), dtype=np.uint8)
    asked = PolicyInput(images, np.zeros(8), "pick up the milk and place it in the basket", Episode("any", 0, 0), 0)
    parts = measured_parts(policy, asked)
    rows = []
    for name, function in parts.items():
        times = [timed(function) for _ in range(WARM_UP + repeats)][WARM_UP:]
        p50, p95 = np.quantile(times, [0.5, 0.95]) * 1000
        rows.append({"name": name, "p50_ms": float(p50), "p95_ms": float(p95)})
    return {
        "rows": rows, "model": type(policy.config.model).model_id, "device": policy.device, "batch": 1,
        "chunk": policy.chunk_size, "actions per second": policy.chunk_size / rows[0]["p50_ms"] * 1000,
        "frames": f"{frames} of {image_size}x{image_size}", "warm_up": WARM_UP, "repeats": repeats,
    }  # fmt: skip


def measured_parts(policy: Policy, asked: PolicyInput) -> dict[str, Callable[[], Any]]:
    """The parts of `act`, each to be called on its own, by name."""
    raw = policy.batch([asked])
    prepared = policy.task.prepare(raw, policy.device)
    parts: dict[str, Callable[[], Any]] = {
        "act": lambda: policy.act([asked]),
        "images and robot state": lambda: policy.task.prepare(policy.batch([asked]), policy.device),
    }
    known = dict(prepared.features)
    for group, source in policy.model.feature_sources().items():
        kept = " (once per instruction, not in act)" if group == "llm_backbone" else ""
        parts[group + kept] = lambda source=source: source.compute(without_features(prepared))
        known |= source.compute(without_features(prepared))
    rest = without_features(prepared)
    rest.features = known
    parts["the rest: geometry, fusion, head"] = lambda: policy.model.predict(rest)
    return parts


def without_features(batch: ActionBatch) -> ActionBatch:
    """The same batch with nothing computed beforehand."""
    alone = batch.to("cpu" if batch.images.device.type == "cpu" else batch.images.device)
    alone.features = {}
    return alone


def timed(function: Callable[[], Any]) -> float:
    """Seconds of one call; a GPU's work is waited for."""
    start = time.perf_counter()
    with torch.no_grad():
        function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
