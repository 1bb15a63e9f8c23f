"""Forward and backward pass of a nanoVLM on packed sequences, by how attention keeps the samples of a pack apart.

`plain, dense mask` writes out the matrix of attention weights of all pairs of tokens; `fused, dense mask` is PyTorch's
fused attention with the same mask; `documents` computes it sample by sample, in the form of variable lengths; `blocks`
is `flex_attention`, which skips blocks of pairs that don't see each other (CUDA only). The model is the same, its
weights are random, and so are the tokens; losses are compared. Lengths are nanoVLM's (`reference_sizes`), packed by
best fit; every second half of a sample has labels. `tiny` is nanovlm-tiny; `135m` is SmolLM2-135M's shape behind
the tiny vision tower, which sees a single tile here: what is measured is the language model.

Each variant runs in a process of its own. Seconds are of processor time (`step_s`, the least of `repeats`);
`step_mib` is what a step adds to the peak that the process had before: nothing, where loading libraries took more than
a small model's step. On CUDA they are the device's time and memory.

    python scripts/bench.py nanovlm-step [--sizes "('tiny', '135m')"] [--length 2048] [--rows 1] [--precision fp32]
"""

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from _attention import plain_attention
from _own_process import in_own_process, peak_mib, seconds

from vla.batches import IGNORE_INDEX, PackedBatch
from vla.conf.models.nanovlm import NanoVLM230MConfig, NanoVLMTinyConfig
from vla.data.packing.best_fit import BestFitPacker
from vla.data.packing.packer import Size, pack_all
from vla.data.packing.reference_sizes import MAX_IMAGES, nanovlm_sizes
from vla.models.materialize import get_model
from vla.training.precision import autocast_context

PLAIN = "plain, dense mask"
KINDS = {PLAIN: "dense", "fused, dense mask": "dense", "documents": "documents", "blocks": "flex"}


def run(
    sizes: tuple[str, ...] = ("tiny", "135m"), length: int = 2048, rows: int = 1, repeats: int = 3,
    precision: str = "fp32", device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Measure all variants of all models.

    Args:
        sizes: tiny | 135m.
        length: Tokens of a sequence.
        rows: Sequences.
        repeats: Steps of each; the best counts.
        precision: fp32 | bf16.
        device: auto | cpu | cuda.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = []
    for size in sizes:
        plain: dict[str, Any] = {}
        for name in KINDS:
            if name == "blocks" and device == "cpu":
                continue
            values = in_own_process(__file__, name, size, length, rows, repeats, precision, device)
            plain = plain or values
            found.append(
                {
                    "name": name, "model": size, **values, "time_ratio": plain["step_s"] / values["step_s"],
                    "memory_ratio": plain["step_mib"] / values["step_mib"] if values["step_mib"] else "",
                }
            )  # fmt: skip
            assert abs(values["loss"] - plain["loss"]) < (1e-4 if precision == "fp32" else 0.05), (name, values, plain)
    return {"rows": found, "length": length, "sequences": rows, "precision": precision, "device": device}


def get_batch(length: int, rows: int, vocabulary: int) -> PackedBatch:
    """`rows` packs of random tokens; samples have nanoVLM's lengths."""
    sizes = [size for size in nanovlm_sizes(4096) if size.length < length]
    packs = list(pack_all(BestFitPacker(length, MAX_IMAGES, 256), [Size(n, s.length, 0) for n, s in enumerate(sizes)]))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (rows, length), generator=generator)
    documents, positions = torch.full((rows, length), -1), torch.zeros(rows, length, dtype=torch.int64)
    labels = torch.full((rows, length), IGNORE_INDEX)
    segments: list[tuple[int, int, int]] = []
    for row, pack in enumerate(packs[:rows]):
        start = 0
        for key in pack:
            end = start + sizes[key].length
            documents[row, start:end], positions[row, start:end] = len(segments), torch.arange(end - start)
            labels[row, (start + end) // 2 : end] = ids[row, (start + end) // 2 : end]
            segments.append((row, start, end))
            start = end
    return PackedBatch(
        sample_ids=torch.arange(len(segments)), input_ids=ids, attention_mask=documents >= 0, labels=labels,
        pixel_values={}, is_multimodal=torch.zeros(len(segments), dtype=torch.bool), document_ids=documents,
        position_ids=positions, image_mask=torch.zeros(rows, length, dtype=torch.bool), segments=segments,
    )  # fmt: skip


def get_config(size: str, length: int) -> Any:
    """The model's configuration: random weights, as many positions as are needed."""
    tiny = NanoVLMTinyConfig()
    language = tiny.llm_backbone if size == "tiny" else NanoVLM230MConfig().llm_backbone
    return replace(tiny, llm_backbone=replace(language, weights=None, max_position=max(length, language.max_position)))


def measure(
    name: str, size: str, length: int, rows: int, repeats: int, precision: str, device: str
) -> dict[str, float]:  # fmt: skip
    """One variant in this process."""
    config = get_config(size, length)
    model = get_model(replace(config, attention=KINDS[name], pretrained=False), seed=0).to(device).train()
    batch: Any = get_batch(length, rows, config.llm_backbone.vocab_size).to(device)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # of the model, not of the step
    before, times = peak_mib(device), []
    for _ in range(repeats):
        start = seconds(device)
        with plain_attention() if name == PLAIN else nullcontext(), autocast_context(precision, device):
            output: Any = model(batch)
        loss = output.token_loss.mean()
        loss.backward()
        times.append(seconds(device) - start)
    return {
        "samples": len(batch), "step_s": min(times), "peak_mib": peak_mib(device),
        "step_mib": peak_mib(device) - before, "loss": loss.item(),
    }  # fmt: skip


if __name__ == "__main__":
    name, size, length, rows, repeats, precision, device = sys.argv[1:]
    print(json.dumps(measure(name, size, int(length), int(rows), int(repeats), precision, device)))
