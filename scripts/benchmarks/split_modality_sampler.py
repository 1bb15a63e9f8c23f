"""An epoch's order from `SplitModalitySampler`, against a plain implementation of the published algorithm on lists.

One process of 64 asks for its samples of an epoch; like all others it needs the whole order. The plain implementation
keeps (is_multimodal, length) pairs and numbers in Python lists, sorts each batch with `sorted` and finds the process
with the least by `min`; both give the same numbers (`checksum`). Lengths have the shape of the published mix for
fine-tuning: 624,610 of 665,298 rows have an image and about 150 words (log-normal, sigma 0.7), the others about 450
(sigma 0.9), cut at 2048. Each run is a process of its own, in turns; medians. Both use one thread; `cpu_s` is the CPU
time of an epoch, which other work on the machine changes little. `peak_mib` is the largest memory of the whole process,
PyTorch and the dataset's lengths included.

    python scripts/bench.py split-modality-sampler [--examples "(665298, 10000000)"] [--repeats 3]
"""

import gc
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = str(Path(__file__).resolve().parents[2])
PLAIN, OURS = "lists", "SplitModalitySampler"
IMAGE_TOKENS = 576  # published: what an image counts where the longest example is looked for
LONGEST = 2048
Pairs = list[tuple[bool, int]]


def run(
    examples: tuple[int, ...] = (665_298, 10_000_000), ranks: int = 64, global_batch_size: int = 1024, repeats: int = 3
) -> dict[str, Any]:
    """Time both.

    Args:
        examples: Sizes of the dataset.
        ranks: Processes that an epoch is dealt to.
        global_batch_size: 16 for each of 64 by default.
        repeats: Processes per variant and size, with an epoch each; the largest size runs the plain one once.
    """
    rows = []
    for size in examples:
        found: dict[str, list[dict[str, Any]]] = {PLAIN: [], OURS: []}
        for turn in range(repeats):
            for name, runs in found.items():
                if turn == 0 or name == OURS or size < max(examples):
                    runs.append(_in_own_process(name, size, ranks, global_batch_size))
        plain = float(np.median([result["cpu_s"] for result in found[PLAIN]]))
        for name, runs in found.items():
            seconds = float(np.median([result["cpu_s"] for result in runs]))
            memory = {"peak_mib": max(result["peak_mib"] for result in runs)}
            checksums = {result["checksum"] for result in runs}
            rows.append(
                {"name": name, "examples": size, "cpu_s": seconds, "ratio": plain / seconds, **memory}
                | {"checksum": "/".join(sorted(checksums))}
            )
    if any(len({row["checksum"] for row in rows if row["examples"] == size}) > 1 for size in examples):
        raise RuntimeError("the two give different orders")
    return {"rows": rows, "ranks": ranks, "global_batch_size": global_batch_size}


def lengths_of_the_published_shape(count: int, seed: int = 0) -> NDArray[np.int32]:
    """(is_multimodal, length) of `count` examples, [count, 2]."""
    random, table = np.random.default_rng(seed), np.empty((count, 2), dtype=np.int32)
    for rows in (table[start : start + 2**20] for start in range(0, count, 2**20)):  # memory is measured, too
        multimodal = random.random(len(rows)) < 624_610 / 665_298
        median, sigma = np.where(multimodal, 150, 450), np.where(multimodal, 0.7, 0.9)
        rows[:, 0] = multimodal
        rows[:, 1] = np.clip(median * np.exp(sigma * random.standard_normal(len(rows))), 1, LONGEST)
    return table


def plain_order(pairs: Pairs, size: int, ranks: int, seed: int, epoch: int) -> list[int]:
    """The published order of an epoch."""
    generator = torch.Generator().manual_seed(seed + epoch)
    shuffled = []
    for kind in (True, False):
        members = [number for number, (multimodal, _) in enumerate(pairs) if multimodal == kind]
        shuffled.append([members[place] for place in torch.randperm(len(members), generator=generator).tolist()])
    batches = [batch for members in shuffled for batch in _cut(members, size)]
    dealt = [_deal(sorted(batch, key=lambda number: -pairs[number][1]), pairs, ranks) for batch in batches]
    dealt = [dealt[place] for place in torch.randperm(len(dealt), generator=generator).tolist()]
    longest = [max(pairs[number][1] + IMAGE_TOKENS * pairs[number][0] for number in batch) for batch in dealt]
    heaviest = longest.index(max(longest))
    dealt[0], dealt[heaviest] = dealt[heaviest], dealt[0]
    return [number for batch in dealt for number in batch]


def _cut(members: list[int], size: int) -> Iterator[list[int]]:
    """Batches; the last one is filled up with the first examples, as often as it takes."""
    for start in range(0, len(members), size):
        batch = members[start : start + size]
        while len(batch) < size:
            batch += members[: size - len(batch)]
        yield batch


def _deal(batch: list[int], pairs: Pairs, ranks: int) -> list[int]:
    buckets: list[list[int]] = [[] for _ in range(ranks)]
    sums = [0.0] * ranks
    for number in batch:
        least = sums.index(min(sums))
        buckets[least].append(number)
        sums[least] += pairs[number][1]
        if len(buckets[least]) == len(batch) // ranks:
            sums[least] = float("inf")
    return [number for bucket in buckets for number in bucket]


def plain_stream(pairs: Pairs, size: int, ranks: int, rank: int, seed: int, epoch: int) -> list[int]:
    """What one process sees."""
    order, share = plain_order(pairs, size, ranks, seed, epoch), size // ranks
    starts = range(rank * share, len(order), size)
    return [number for start in starts for number in order[start : start + share]]


def _plain(table: NDArray[np.int32], size: int, ranks: int, rank: int) -> Callable[[], list[int]]:
    pairs = [(bool(multimodal), length) for multimodal, length in table.tolist()]
    return lambda: plain_stream(pairs, size, ranks, rank, seed=7, epoch=0)


def _ours(table: NDArray[np.int32], size: int, ranks: int, rank: int) -> Callable[[], list[int]]:
    from vla.data.samplers import SplitModalitySampler

    sampler = SplitModalitySampler(table, global_batch_size=size, rank=rank, world_size=ranks, seed=7)
    return lambda: list(sampler)


def _in_own_process(name: str, *numbers: int) -> dict[str, Any]:
    command = [sys.executable, __file__, name, *map(str, numbers)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        raise RuntimeError(f"{name} failed: {result.stderr.strip().splitlines()[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


def _peak_mib() -> float:
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _measure(name: str, count: int, ranks: int, size: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    epoch = (_plain if name == PLAIN else _ours)(lengths_of_the_published_shape(count), size, ranks, ranks // 2)
    gc.freeze()  # or else the collector visits all of PyTorch's objects at some point of a short run
    start = time.process_time()
    stream = epoch()
    seconds = time.process_time() - start
    checksum = hashlib.sha256(np.array(stream, dtype=np.int64).tobytes()).hexdigest()[:8]
    return {"cpu_s": seconds, "peak_mib": _peak_mib(), "checksum": checksum}


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], *map(int, sys.argv[2:]))))
