"""What all evaluations on held-out data share: reading it, and writing what was found."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla.data.datasets.base import Datasets
from vla.data.loader import get_dataloader
from vla.data.samplers import DistributedSampler

FOLDER = "evaluation"  # of a run


def held_out_batches(datasets: Datasets, batch_size: int, max_batches: int | None) -> Iterator[Any]:
    """The held-out samples in their order, as loaded; None: all of them."""
    dataset: Any = datasets.validation
    sampler = DistributedSampler(len(dataset), global_batch_size=batch_size, shuffle=False)
    loader = get_dataloader(dataset, sampler, datasets.collator, batch_size=batch_size, seed=0)
    for index, batch in enumerate(loader):
        if index == max_batches:
            return
        yield batch


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half written."""
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(content)
    os.replace(beside, path)
