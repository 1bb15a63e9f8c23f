"""Fine-tuning steps of a vision-language model with batches by modality and length, against batches at random.

What counts is real tokens a second: patches and text of the samples. Padding is computed for nothing: text up to the
longest of a micro-batch, and, where rows with and without an image mix, as many positions as an image has patches for
every row without one. Lengths have the shape of the published mix for fine-tuning (see split-modality-sampler).

`epoch` counts a whole epoch of 665,298 samples at published size: 576 patches, up to 2,048 tokens, 128 samples a step,
16 at once; `slowest` is by how much the process with the most positions of a step exceeds their mean (the others wait
for it). With 8 processes a step is one micro-batch of each: dealing makes them alike, but leaves long and short samples
in each of them. `step` trains a model of 6 layers and 1.7 million parameters for real, with a ninth of these lengths
and patches: 64 samples a step, 8 at once, features of the frozen vision backbone given, on one thread; seconds are of
CPU time, which other work on the machine does not change.

    python scripts/bench.py finetune-batches [--steps 8]
"""

import importlib.util
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla.batches import IGNORE_INDEX, LanguageBatch
from vla.conf.models.language import LlamaTinyConfig
from vla.conf.models.prismatic.small import PrismTinyConfig
from vla.conf.models.vision_backbones import SigLIPViTTinyConfig
from vla.data.samplers import DistributedSampler, ResumableSampler, SplitModalitySampler
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model

RANDOM, GROUPED = "random", "by modality and length"
PATCHES, EXAMPLES = 576, 665_298
SCALE = 9  # the model that is trained here sees sequences shorter by this factor
Lengths = NDArray[np.int32]


def run(steps: int = 8, examples: int = EXAMPLES) -> dict[str, Any]:
    """Count an epoch, and time both kinds of batches in turns.

    Args:
        steps: Timed steps of each.
        examples: Samples of the epoch that is counted.
    """
    table = _published_lengths(examples)
    rows = [row for processes in (1, 8) for row in _count_epoch(table, processes)]
    return {"rows": [*rows, *_time_steps(steps)]}


def _published_lengths(count: int) -> Lengths:
    path = Path(__file__).with_name("split_modality_sampler.py")
    spec = importlib.util.spec_from_file_location("split_modality_sampler", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: Lengths = module.lengths_of_the_published_shape(count)
    return table


def _samplers(table: Lengths, **options: Any) -> dict[str, ResumableSampler]:
    return {RANDOM: DistributedSampler(len(table), **options), GROUPED: SplitModalitySampler(table, **options)}


def _positions(table: Lengths, micro_batches: NDArray[np.integer], patches: int) -> tuple[Any, Any]:
    """Real tokens, and positions that are computed, of micro-batches [..., B] of sample numbers."""
    multimodal, lengths = table[micro_batches, 0].astype(bool), table[micro_batches, 1]
    real = (lengths + patches * multimodal).sum(axis=-1)
    longest = lengths.max(axis=-1) + patches * multimodal.any(axis=-1)
    return real, longest * micro_batches.shape[-1]


def _count_epoch(table: Lengths, processes: int, size: int = 128, micro: int = 16) -> Iterator[dict[str, Any]]:
    for name, sampler in _samplers(table, global_batch_size=size, world_size=processes).items():
        order = sampler.global_order(0)
        order = order[: len(order) // size * size].reshape(-1, processes, size // processes // micro, micro)
        real, computed = _positions(table, order, PATCHES)
        by_process = computed.sum(axis=-1)
        yield {
            "name": name, "part": "epoch", "processes": processes, "padding": 1 - real.sum() / computed.sum(),
            "slowest": float((by_process.max(axis=1) / by_process.mean(axis=1)).mean() - 1),
        }  # fmt: skip


def _time_steps(steps: int, size: int = 64, micro: int = 8) -> Iterator[dict[str, Any]]:
    patches = PATCHES // SCALE
    table = _published_lengths(size * max(steps, 8) * 2)
    table[:, 1] = np.maximum(2, table[:, 1] // SCALE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = _make_model(patches)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    orders = {
        name: sampler.global_order(0)[: (steps + 1) * size].reshape(-1, size // micro, micro)
        for name, sampler in _samplers(table, global_batch_size=size).items()
    }
    seconds = dict.fromkeys(orders, 0.0)
    for number in range(min(len(order) for order in orders.values())):
        for name, order in orders.items():
            batches = [_make_batch(table, rows, model.config, patches) for rows in order[number]]
            start = time.process_time()
            for batch in batches:
                model(batch).token_loss.sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            if number:  # the first is a warm-up
                seconds[name] += time.process_time() - start
    torch.set_num_threads(threads)
    rates = {}
    for name, order in orders.items():
        real, computed = _positions(table, order[1:], patches)
        rates[name] = float(real.sum() / seconds[name])
        yield {
            "name": name, "part": "step", "processes": 1, "padding": 1 - real.sum() / computed.sum(),
            "steps": len(order) - 1, "cpu_s_per_step": seconds[name] / (len(order) - 1),
            "tokens_per_cpu_s": rates[name], "ratio": rates[name] / rates[RANDOM],
        }  # fmt: skip


def _make_model(patches: int) -> Any:
    tiny = PrismTinyConfig()
    vision = SigLIPViTTinyConfig(image_size=int(patches**0.5) * SigLIPViTTinyConfig().patch_size)
    language = LlamaTinyConfig(
        vocab_size=2048, hidden_size=128, intermediate_size=344, num_layers=6, num_heads=4, num_kv_heads=4
    )  # fmt: skip
    model = get_model(replace(tiny, vision_backbone=vision, llm_backbone=language), seed=0)
    apply_stage(model, tiny.finetune)
    return model.train()


def _make_batch(table: Lengths, rows: NDArray[np.integer], config: Any, patches: int) -> LanguageBatch:
    """Random tokens and features; every second half of a text is learned."""
    generator = torch.Generator().manual_seed(int(rows[0]))
    lengths = torch.from_numpy(table[rows, 1]).long()[:, None]
    places = torch.arange(int(lengths.max()))
    ids = torch.randint(0, config.llm_backbone.vocab_size, (len(rows), len(places)), generator=generator)
    return LanguageBatch(
        sample_ids=torch.from_numpy(rows.astype(np.int64)),
        input_ids=ids,
        attention_mask=places < lengths,
        labels=torch.where((places >= lengths // 2) & (places < lengths), ids, IGNORE_INDEX),
        pixel_values={},
        is_multimodal=torch.from_numpy(table[rows, 0].astype(bool)),
        features={
            "vision_backbone.patches": torch.randn(
                len(rows), patches, config.vision_backbone.embed_dim, generator=generator
            )
        },
    )
