"""Golden cases of OpenVLA and OpenVLA-OFT."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vla.batches import ActionBatch
from vla.conf.models.openvla import OpenVLAConfig

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "openvla"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Content of a JSON file by its stem."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def make_batch() -> Callable[..., ActionBatch]:
    """Batches that fit a configuration; instructions are of different lengths."""

    def make(config: OpenVLAConfig, size: int = 4) -> ActionBatch:
        processor, generator = config.processor, torch.Generator().manual_seed(1)
        side = processor.image_size
        texts = ["open the drawer", "pick up the black bowl and place it on the plate", "push", "Open the drawer"]
        actions = torch.rand(size, config.chunk_size, 7, generator=generator) * 2 - 1
        actions[..., -1] = actions[..., -1].sign()
        return ActionBatch(
            sample_ids=torch.arange(10, 10 + size),
            images=torch.rand(size, len(processor.cameras), 3, side, side, generator=generator),
            instructions=[texts[i % len(texts)] for i in range(size)],
            actions=actions,
            action_mask=torch.ones(size, config.chunk_size, dtype=torch.bool),
            proprio=torch.randn(size, 8, generator=generator) if processor.proprio else None,
            rng_seeds=torch.arange(100, 100 + size),
        )

    return make
