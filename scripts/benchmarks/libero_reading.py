"""Random windows read from LIBERO's HDF5 files, against a reader that opens the file for every sample.

Both readers give equal samples (that is checked), in the same shuffled order, through the same DataLoader and collator.
They take turns, and rates are medians over the turns. `--layout compressed` are files with gzip over chunks of several
frames, as libero-mini ships; `--layout official` is an uncompressed copy of them, as LIBERO's own files are.

    python scripts/bench.py libero-reading --layout official
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import h5py
import numpy as np

from vla.conf.datasets import LiberoConfig, LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.components import ChunkHeadConfig
from vla.data.collators import ActionCollator
from vla.data.datasets.base import MapDataset
from vla.data.datasets.libero import LiberoDataset
from vla.data.datasets.libero_format import CAMERA_SUFFIX, PROPRIO, alignment_of
from vla.data.loader import get_dataloader
from vla.data.materialize import get_datasets
from vla.data.processor import Processor
from vla.data.samplers import DistributedSampler

BATCH_SIZE = 16
NAIVE, FIRST, LATER = "file opened per sample", "ours, first epoch (nothing cached)", "ours, later epochs"


class NaiveDataset:
    """The same samples by plain h5py: open the file, read frame by frame, close it."""

    def __init__(self, root: Path, dataset: LiberoDataset, processor: Processor) -> None:
        self.root = root
        self.dataset = dataset
        self.processor = processor
        self.starts = np.array([episode.first_sample for episode in dataset.episodes])

    def __len__(self) -> int:
        return len(self.dataset)

    def sample_label(self, index: int) -> str:
        return self.dataset.sample_label(index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        ref = self.dataset.episodes[number]
        config, chunk = self.processor.config, self.processor.chunk_size
        with h5py.File(self.root / ref.file, "r") as file:
            demo = file["data"][ref.demo]
            shift = int(alignment_of(file["data"], "auto") == "after")
            step = index - ref.first_sample
            times = [max(step - i * config.frame_stride, 0) for i in reversed(range(config.num_frames))]
            images = [demo[f"obs/{camera}{CAMERA_SUFFIX}"][t] for t in times for camera in config.cameras]
            actions = demo["actions"][step + shift : step + shift + chunk].astype(np.float32)
            state = np.concatenate([demo[f"obs/{key}"][step] for key in PROPRIO]).astype(np.float32)
        missing = chunk - len(actions)
        return {
            "images": np.stack(images).transpose(0, 3, 1, 2),
            "instruction": ref.instruction,
            "actions": self.processor.normalize_actions(np.concatenate([actions, actions[-1:].repeat(missing, 0)])),
            "action_mask": np.arange(chunk) < chunk - missing,
            "proprio": self.processor.normalize_proprio(state),
        }


def run(
    layout: str = "compressed",
    root: str | None = None,
    num_workers: int = 2,
    naive_samples: int = 320,
    turns: int = 5,
) -> dict[str, Any]:
    """Measure both readers.

    Args:
        layout: compressed (the files as they are) | official (an uncompressed copy).
        root: folder of LIBERO files; None is the shipped `libero-mini`.
        num_workers: processes of the DataLoader, for both readers.
        naive_samples: that the naive reader reads per turn.
        turns: of both readers.
    """
    if layout not in ("compressed", "official"):
        raise ValueError(f"layout: must be compressed or official, got {layout!r}")
    folder = Path(root) if root else LiberoMiniConfig().root
    with tempfile.TemporaryDirectory() as temporary:
        place = folder
        if layout == "official":
            place = Path(temporary)
            for path in sorted(folder.rglob("*.hdf5")):
                copy_uncompressed(path, place / path.name)
        rates = measure(place, num_workers, naive_samples, turns)
    rows = []
    for name, values in rates.items():
        by_turn = [ours / naive for ours, naive in zip(values, rates[NAIVE], strict=True)]
        rows.append({"name": name, "samples_per_second": median(values), "median_ratio_by_turn": median(by_turn)})
    return {
        "rows": rows, "baseline": NAIVE, "measure": "samples_per_second", "larger_is_better": True,
        "window": "2 cameras x 2 frames of 128x128, 8 actions, 8-D state", "batch_size": BATCH_SIZE,
        "num_workers": num_workers, "layout": layout, "turns": turns,
    }  # fmt: skip


def measure(root: Path, num_workers: int, naive_samples: int, turns: int) -> dict[str, list[float]]:
    """Samples per second of every turn, by reader."""
    window = ProcessorConfig(image_size=112, num_frames=2, proprio=True)
    model = VGGTTinyConfig(processor=window, action_head=ChunkHeadConfig(chunk_size=8))
    datasets = get_datasets(LiberoConfig(root=root, validation_episodes=0), model)
    naive = NaiveDataset(root, datasets.train, datasets.processor)
    check_equal(naive, datasets.train)
    rates: dict[str, list[float]] = {NAIVE: [], FIRST: [], LATER: []}
    for _ in range(turns):
        rates[NAIVE] += epochs(naive, num_workers, naive_samples, count=1)
        datasets.train.forget_frames()
        first, *later = epochs(datasets.train, num_workers, len(naive), count=3)
        rates[FIRST].append(first)
        rates[LATER].append(median(later))
    return rates


def epochs(dataset: MapDataset, num_workers: int, max_samples: int, count: int) -> list[float]:
    """Samples per second of `count` epochs, of at most `max_samples` each; the start of the workers isn't counted."""
    sampler = DistributedSampler(len(dataset), global_batch_size=BATCH_SIZE)
    loader = get_dataloader(dataset, sampler, ActionCollator(), batch_size=BATCH_SIZE, num_workers=num_workers)
    rates = []
    for epoch in range(count):
        sampler.set_position(epoch, 0)
        seen, start = 0, 0.0
        for batch in loader:
            if not start:
                start = time.perf_counter()  # the first batch waits for the workers to start
                continue
            seen += len(batch)
            if seen >= max_samples:
                break
        rates.append(seen / (time.perf_counter() - start))
    return rates


def check_equal(naive: NaiveDataset, dataset: LiberoDataset) -> None:
    """Raise unless both readers give the same samples (a few of them)."""
    for index in np.linspace(0, len(dataset) - 1, 7).astype(int).tolist():
        one, other = naive[index], dataset[index]
        for key, value in one.items():
            if not np.array_equal(value, other[key]):
                raise ValueError(f"{dataset.sample_label(index)}: readers differ in {key}")


def copy_uncompressed(source: Path, target: Path) -> None:
    """Copy an HDF5 file, every dataset in one piece and without compression, as LIBERO's own files are."""
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        new.create_group("data").attrs.update(old["data"].attrs)

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Dataset):
                new["data"].create_dataset(name, data=item[()])

        old["data"].visititems(copy)
