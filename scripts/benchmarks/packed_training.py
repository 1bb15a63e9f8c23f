"""Tokens with a label per second of training, packed against padded batches: same model, same data, same memory.

Samples are a picture of one tile and a question with an answer. Their text has nanoVLM's lengths (log-normal, see
`vla.data.packing.reference_sizes`), made `scale` times shorter, as sequences of `length` tokens are shorter than 4,096;
two fifths of it are the answer, which has labels. A micro-batch may have `rows` x `length` positions, however it is
made: of packs that best fit fills; of single samples in random order, as many as fit when they are padded to the
longest of them (the baseline); or of `rows` single samples, which the published collator pads to `length`. Each
variant learns from micro-batches of the same samples with AdamW, in a process of its own: `peak_mib` is that process's.

Time is processor time, without reading and tokenising. `labelled_share` is the share of computed positions that have a
label, `fill` that of positions that hold a token. `small` has 8 layers of 256 channels, `135m` SmolLM2-135M's shape,
both with random weights behind the tiny vision tower.

    python scripts/bench.py packed-training [--size small] [--length 512] [--rows 4] [--steps 16] [--scale 4]
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from _own_process import in_own_process, peak_mib, seconds
from PIL import Image

from vla.batches import IGNORE_INDEX
from vla.conf.models.nanovlm import NanoLMConfig, NanoVLM230MConfig, NanoVLMConfig, NanoVLMTinyConfig
from vla.data.packing.best_fit import BestFitPacker
from vla.data.packing.packer import Size, pack_all
from vla.data.packing.reference_sizes import MAX_IMAGES, TEMPLATE, TEXT_MEDIAN, TEXT_SIGMA
from vla.data.vqa.collator import PackCollator, Sample
from vla.data.vqa.processor import VQAProcessor
from vla.models.materialize import get_model
from vla.training.precision import autocast_context

PADDED, PUBLISHED, PACKED = "padded to the longest", "padded to the length", "packed"
MicroBatch = list[list[int]]  # rows of samples' numbers


def run(
    size: str = "small", length: int = 512, rows: int = 4, steps: int = 16, scale: int = 4, precision: str = "fp32",
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Train each variant for `steps` steps of one micro-batch.

    Args:
        size: small | 135m.
        length: Tokens of a pack.
        rows: Packs of a micro-batch; every variant's micro-batches have at most as many positions.
        steps: Timed steps of the packed variant; the others train on the same samples.
        scale: By how much texts are shorter than nanoVLM's.
        precision: fp32 | bf16.
        device: auto | cpu | cuda.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    words = (size, length, rows, steps, scale, precision, device)
    found = [
        {"name": name, **in_own_process(__file__, name, *words)} for name in (PADDED, PUBLISHED, PACKED)
    ]  # fmt: skip
    assert len({row["labelled_tokens"] for row in found}) == 1, "not the same samples"
    return {
        "rows": found, "baseline": PADDED, "measure": "labelled_tokens_per_s", "larger_is_better": True, "model": size,
        "positions": rows * length, "precision": precision, "device": device,
    }  # fmt: skip


def get_config(size: str, length: int) -> NanoVLMConfig:
    """The model, over bytes or as many tokens as there are."""
    tiny = NanoVLMTinyConfig()
    small = replace(
        tiny.llm_backbone, hidden_size=256, intermediate_size=688, num_layers=8, num_heads=8, num_kv_heads=4
    )
    large = replace(NanoVLM230MConfig().llm_backbone, weights=None, tokenizer="bytes", num_extra_tokens=68)
    language: NanoLMConfig = {"small": small, "135m": large}[size]
    processor = replace(tiny.processor, max_length=length)
    return replace(tiny, llm_backbone=replace(language, max_position=length), processor=processor)


def make_samples(processor: VQAProcessor, count: int, length: int, scale: int) -> list[Sample]:
    """Samples that fit into `length` tokens, in random order; as many tokens of text as characters."""
    generator = np.random.default_rng(0)
    samples: list[Sample] = []
    while len(samples) < count:
        side = processor.tiling.tile
        picture = Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8))
        grids = [processor.grid(picture)]
        text = int((TEMPLATE + generator.lognormal(np.log(TEXT_MEDIAN), TEXT_SIGMA)) / scale)
        turn = ("q" * max(1, text * 3 // 5), "a" * max(1, text * 2 // 5))
        ids, labels = processor.tokenize([turn], grids)
        if len(ids) <= length:
            pixels = processor.image(picture)
            samples.append(Sample(len(samples), ids, labels, grids, [picture], [pixels]))
    return samples


def plan(name: str, lengths: list[int], length: int, rows: int) -> list[MicroBatch]:
    """The micro-batches of a variant, which hold every sample once."""
    if name == PACKED:
        packs = list(pack_all(BestFitPacker(length, MAX_IMAGES, 256), [Size(*item, 1) for item in enumerate(lengths)]))
        return [packs[start : start + rows] for start in range(0, len(packs), rows)]
    batches: list[MicroBatch] = [[]]
    longest = 0
    for number, own in enumerate(lengths):
        longest = max(longest, own)
        full = len(batches[-1]) == rows if name == PUBLISHED else (len(batches[-1]) + 1) * longest > rows * length
        if full:
            batches.append([])
            longest = own
        batches[-1].append([number])
    return batches


def count_samples(processor: VQAProcessor, length: int, rows: int, steps: int, scale: int) -> list[Sample]:
    """About as many samples as `steps` packed micro-batches take."""
    probe = make_samples(processor, 64, length, scale)
    mean = sum(map(len, probe)) / len(probe)
    return make_samples(processor, max(8, int(steps * rows * length / mean)), length, scale)


def batches_of(
    name: str, processor: VQAProcessor, samples: list[Sample], length: int, rows: int
) -> Iterator[Any]:  # fmt: skip
    """The micro-batches of a variant, as loaded."""
    collator = PackCollator(processor)
    for batch in plan(name, list(map(len, samples)), length, rows):
        loaded = collator([{"samples": [samples[number] for number in row]} for row in batch])
        yield _padded(loaded, length) if name == PUBLISHED else loaded


def _padded(batch: Any, length: int) -> Any:
    """A batch whose rows have `length` positions."""
    missing = length - batch.input_ids.shape[1]
    fills = {"input_ids": 0, "labels": IGNORE_INDEX, "document_ids": -1, "position_ids": 0, "image_mask": False,
             "attention_mask": False}  # fmt: skip
    padded = {
        key: torch.nn.functional.pad(getattr(batch, key), (0, missing), value=fill) for key, fill in fills.items()
    }
    return replace(batch, **padded)


def measure(
    name: str, size: str, length: int, rows: int, steps: int, scale: int, precision: str, device: str
) -> dict[str, float]:  # fmt: skip
    """One variant in this process."""
    config = get_config(size, length)
    processor = VQAProcessor.from_config(config)
    samples = count_samples(processor, length, rows, steps, scale)
    loaded = list(batches_of(name, processor, samples, length, rows))
    model = get_model(config, seed=0).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    spent = labelled = tokens = positions = 0.0
    for number, batch in enumerate([loaded[0], *loaded]):  # the first is a warm-up
        batch = batch.to(device)
        start = seconds(device)
        batch = replace(batch, pixel_values=processor.pixels(batch.pixel_values))
        with autocast_context(precision, device):
            output: Any = model(batch)
        output.token_loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if number:
            spent += seconds(device) - start
            labelled += float((batch.labels[:, 1:] != IGNORE_INDEX).sum())
            tokens += float(batch.attention_mask.sum())
            positions += batch.input_ids.numel()
    return {
        "samples": len(samples), "micro_batches": len(loaded), "fill": tokens / positions,
        "labelled_share": labelled / positions, "labelled_tokens": labelled, "labelled_tokens_per_s": labelled / spent,
        "peak_mib": peak_mib(device),
    }  # fmt: skip


if __name__ == "__main__":
    chosen, model_size, *numbers, dtype, where = sys.argv[1:]
    print(json.dumps(measure(chosen, model_size, *map(int, numbers), dtype, where)))  # type: ignore[arg-type]
