"""Items, datasets and streams of packs for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from vqa_cases import make_processor

from vla.conf.vqa_datasets import PackedDatasetConfig, PackingConfig, RatingsConfig, VQAConfig
from vla.data.vqa.datasets import PackedSamples, get_admission
from vla.data.vqa.samples import SampleMaker
from vla.data.vqa.sources import Items
from vla.overwatch.distributed import DistState

WORDS = "a small red cube on the wooden table near three bowls and one cat".split()
SEQ_LENGTH = 96


def make_items(count: int, folder: Path, bad: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Dialogues of different lengths, three of four about a picture of its own size; damaged files for `bad`."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    items = []
    for number in range(count):
        picture = folder / f"{number}.png"
        height, width = generator.integers(5, 50, 2).tolist()
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(picture)
        if number in bad:
            picture.write_bytes(picture.read_bytes()[:60])
        answer = " ".join(generator.choice(WORDS, generator.integers(1, 9)))
        images = [{"bytes": picture.read_bytes(), "path": None}] if number % 4 else []
        items.append({"images": images, "texts": [{"user": f"What is {number}?", "assistant": answer}]})
    return items


def packed(items: list[Any], on_bad_sample: str = "skip", **packing: Any) -> PackedSamples:
    """Training data of items in memory."""
    config = VQAConfig(
        packing=PackingConfig(**({"buffer_size": 8, "streams": 2} | packing)), on_bad_sample=on_bad_sample
    )
    return packed_source(Items(items, [f"item {number}" for number in range(len(items))]), config)


def packed_source(source: Any, config: PackedDatasetConfig) -> PackedSamples:
    """Training data of a source."""
    maker = SampleMaker(make_processor(), RatingsConfig(), get_admission(config.packing, SEQ_LENGTH))
    return PackedSamples(source, maker, config, SEQ_LENGTH)


def open_stream(data: PackedSamples, rank: int = 0, world_size: int = 1, **options: Any) -> Any:
    """The stream of one process, alone in its process group."""
    values: dict[str, Any] = {"global_batch_size": 4, "batch_size": 1, "seed": 7} | options
    return data.stream(DistState(rank=rank, world_size=world_size), **values)
