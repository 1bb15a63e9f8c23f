"""A processor with the small recorded tokenizer, samples, and recorded cases."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from vqa_cases import GOLDEN, make_processor

from vla.data.vqa.collator import Sample
from vla.data.vqa.processor import VQAProcessor


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Content of a JSON file by its stem."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def processor() -> VQAProcessor:
    return make_processor()


@pytest.fixture(scope="session")
def sample_of(processor: VQAProcessor) -> Callable[..., Sample]:
    """A sample with random pictures of the given heights and widths, pixels read."""

    def make(key: int, answer: str, *sizes: tuple[int, int]) -> Sample:
        generator = np.random.default_rng(key)
        pictures = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        from PIL import Image

        images = [Image.fromarray(picture) for picture in pictures]
        grids = [processor.grid(image) for image in images]
        ids, labels = processor.tokenize([("What is this?", answer)], grids)
        return Sample(key, ids, labels, grids, images, [processor.image(image) for image in images])

    return make
