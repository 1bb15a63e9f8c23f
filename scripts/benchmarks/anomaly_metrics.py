"""Exact pixel AUROC by class: sorted scores, against concatenating everything and scikit-learn's ROC curve.

Maps of random noise with brighter defects in three quarters of the pictures, as many and as large as MVTec-AD's. The
baseline is what UniAD's own evaluation does: all maps and masks in one array, a curve with every threshold for each
class. Each variant runs in a process of its own, whose highest memory is reported (the interpreter and PyTorch take
about 0.4 GiB of it). `everything` is what an evaluation here computes: image and pixel AUROC, AP, F1-max and AUPRO.

    python scripts/bench.py anomaly-metrics [--pictures 1725 --classes 15 --size 224]
"""

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from vla.evaluation.anomaly.ranking import auroc, rank
from vla.evaluation.anomaly.results import AnomalyResults
from vla.overwatch.distributed import DistState

BASELINE = "scikit-learn, concatenated"
Batch = tuple[list[int], torch.Tensor, torch.Tensor]  # numbers, maps, masks


def run(pictures: int = 1725, classes: int = 15, size: int = 224) -> dict[str, Any]:
    """Time every variant once.

    Args:
        pictures: in all.
        classes: that they are of, in turns.
        size: pixels of a map, square.
    """
    variants = {BASELINE: _scikit_learn, "sorted scores": _sorted_scores, "everything": _everything}
    rows = [_measure(name, function, (pictures, classes, size)) for name, function in variants.items()]
    return {"rows": rows, "baseline": BASELINE, "measure": "seconds", "pictures": pictures, "size": size}


def _measure(
    name: str, function: Callable[..., tuple[float, float]], arguments: tuple[int, int, int]
) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, arguments))
    process.start()
    sender.close()  # the process has the only other one, so that its end is the end of what comes
    try:
        seconds, value, peak = receiver.recv()
    except EOFError:
        raise SystemExit(f"{name}: its process ended without a result; what it said is above") from None
    process.join()
    return {"name": name, "seconds": seconds, "mean_pixel_auroc": value, "peak_gib": peak}


def _child(sender: Any, function: Callable[..., tuple[float, float]], arguments: tuple[int, int, int]) -> None:
    torch.set_num_threads(1)
    batches = _batches(*arguments)
    seconds, value = function(batches, arguments[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sender.send((seconds, value, peak))


def _batches(pictures: int, classes: int, size: int) -> Iterator[Batch]:
    for start in range(0, pictures, 25):
        numbers = list(range(start, min(start + 25, pictures)))
        generator = np.random.default_rng(start)
        maps = generator.random((len(numbers), size, size), dtype=np.float32)
        masks = np.zeros(maps.shape, dtype=bool)
        for row, number in enumerate(numbers):
            if number % 4:
                y, x = generator.integers(0, size * 3 // 4, 2)
                masks[row, y : y + size // 6, x : x + size // 5] = True
        yield numbers, torch.from_numpy(maps + 0.4 * masks.astype(np.float32)), torch.from_numpy(masks)


def _scikit_learn(batches: Iterator[Batch], classes: int) -> tuple[float, float]:
    from sklearn.metrics import auc, roc_curve

    found = list(batches)
    start = time.perf_counter()
    maps = np.concatenate([maps.numpy() for _, maps, _ in found])
    masks = np.concatenate([masks.numpy() for _, _, masks in found])
    owners = np.array([number % classes for numbers, _, _ in found for number in numbers])
    values = []
    for owner in range(classes):
        rate, hits, _ = roc_curve(masks[owners == owner].ravel().astype(int), maps[owners == owner].ravel())
        values.append(auc(rate, hits))
    return time.perf_counter() - start, float(np.mean(values))


def _sorted_scores(batches: Iterator[Batch], classes: int) -> tuple[float, float]:
    found = list(batches)
    start = time.perf_counter()
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {owner: [] for owner in range(classes)}
    for numbers, maps, masks in found:
        for row, number in enumerate(numbers):
            values, mask = maps[row].numpy(), masks[row].numpy()
            parts[number % classes].append((values[~mask], values[mask]))
    values = [auroc(rank(*(np.concatenate(part) for part in zip(*pairs, strict=True)))) for pairs in parts.values()]
    return time.perf_counter() - start, float(np.mean(values))


def _everything(batches: Iterator[Batch], classes: int) -> tuple[float, float]:
    results, seconds = AnomalyResults((16, 16)), 0.0
    for numbers, maps, masks in batches:
        labels, real = masks.flatten(1).any(1).long(), torch.ones(len(numbers), dtype=torch.bool)
        start = time.perf_counter()
        results.add(torch.tensor(numbers), [str(number % classes) for number in numbers], maps, masks, labels, real)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    means = results.compute(DistState()).means
    return seconds + time.perf_counter() - start, means["pixel_auroc"]
