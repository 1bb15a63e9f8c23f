"""Packing samples into sequences of 4,096 tokens, against a plain implementation of nanoVLM's published algorithm.

Only the packing is timed: sizes in, packs out, no tokens and no images. Sizes are those of
`vla.data.packing.reference_sizes`: nanoVLM's recipe over a stated mixture of image shapes and log-normal text. A buffer
of that many samples is packed as a whole, and `fill` is the share of the packs' places that hold a token. The plain
implementation sorts all bags by load for every sample, as published; `published packs` is this toolkit's option of the
same packs. The rows of a stream have each packer's own default buffer (the published recipe's: tokens for 8 sequences;
ours: 256 samples). Seconds of processor time, so that other programs on the machine hardly count; the least of
`repeats` runs.

    python scripts/bench.py packing [--buffers "(1000, 10000)"] [--repeats 5]
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from vla.data.packing.best_fit import BestFitPacker
from vla.data.packing.packer import Packer, Size, pack_all
from vla.data.packing.published import SPARE_BAGS, PublishedPacker, balanced_bags
from vla.data.packing.reference_sizes import MAX_IMAGES, SEQ_LENGTH, nanovlm_sizes

Packs = list[list[int]]


def run(buffers: tuple[int, ...] = (1000, 10_000), repeats: int = 5) -> dict[str, Any]:
    """Time the three.

    Args:
        buffers: Samples that are packed at once.
        repeats: Runs of each; the plain implementation gets one from 10,000 samples on.
    """
    rows = []
    for number in buffers:
        sizes = nanovlm_sizes(number)
        variants: dict[str, Callable[[], Packs]] = {
            "plain, as published": lambda sizes=sizes: _plain(sizes),  # type: ignore[misc]
            "published packs": lambda sizes=sizes: _bags(sizes),  # type: ignore[misc]
            "BestFitPacker": lambda sizes=sizes: _stream(BestFitPacker, len(sizes), sizes),  # type: ignore[misc]
        }
        plain: dict[str, Any] = {}
        for name, pack in variants.items():
            row = _row(name, f"{number} samples", sizes, pack, 1 if not plain and number >= 10_000 else repeats)
            plain = plain or row
            rows.append({**row, "ratio": row["samples_per_s"] / plain["samples_per_s"]})
        assert _plain(sizes[:300]) == _bags(sizes[:300])
    sizes = nanovlm_sizes(max(buffers))
    rows.append(_row("published packs", "8 sequences", sizes, lambda: _stream(PublishedPacker, 8, sizes), repeats))
    rows.append(_row("BestFitPacker", "256 samples", sizes, lambda: _stream(BestFitPacker, 256, sizes), repeats))
    return {"repeats": repeats, "measure": "samples_per_s", "larger_is_better": True, "rows": rows}


def _row(name: str, buffer: str, sizes: list[Size], pack: Callable[[], Packs], repeats: int) -> dict[str, Any]:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        packs = pack()
        seconds.append(time.process_time() - start)
    fill = sum(size.length for size in sizes) / (len(packs) * SEQ_LENGTH)
    return {"name": name, "buffer": buffer, "samples_per_s": len(sizes) / min(seconds), "fill": fill}


def _stream(kind: Callable[[int, int, int], Packer], buffer: int, sizes: list[Size]) -> Packs:
    return list(pack_all(kind(SEQ_LENGTH, MAX_IMAGES, buffer), sizes))


def _bags(sizes: list[Size]) -> Packs:
    bags = balanced_bags([size.length for size in sizes], [size.images for size in sizes], SEQ_LENGTH, MAX_IMAGES)
    return [bag for bag in bags if bag]


def _plain(sizes: Sequence[Size]) -> Packs:
    """Every sample, longest first, into the lightest bag with room, found by sorting all bags."""
    bags: Packs = [[] for _ in range(-(-sum(size.length for size in sizes) // SEQ_LENGTH) + SPARE_BAGS)]
    loads, pictures = [0] * len(bags), [0] * len(bags)
    for index, size in sorted(enumerate(sizes), key=lambda item: item[1].length, reverse=True):
        for bag in sorted(range(len(bags)), key=loads.__getitem__):
            if loads[bag] + size.length <= SEQ_LENGTH and pictures[bag] + size.images <= MAX_IMAGES:
                break
        else:
            bag = len(bags)
            bags.append([])
            loads.append(0)
            pictures.append(0)
        bags[bag].append(index)
        loads[bag] += size.length
        pictures[bag] += size.images
    return [bag for bag in bags if bag]
