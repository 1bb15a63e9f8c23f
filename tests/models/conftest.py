"""Small models and batches that the tests of this room share."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vla.batches import ActionBatch
from vla.conf.models.atlas import AtlasVLAConfig, VGGTTinyConfig
from vla.models.vlas.atlas import AtlasVLA

INSTRUCTIONS = ["open the drawer", "pick up the bowl", "", "open the drawer", "push the plate"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def tiny_config() -> AtlasVLAConfig:
    """`vggt-tiny` on smaller images, so that a forward pass takes milliseconds."""
    config = VGGTTinyConfig()
    return replace(
        config, processor=replace(config.processor, image_size=56), vggt=replace(config.vggt, img_size=56, embed_dim=32)
    )


@pytest.fixture
def make_batch() -> Callable[..., ActionBatch]:
    """Batches that fit a configuration."""

    def make(config: AtlasVLAConfig, size: int = 4) -> ActionBatch:
        processor, chunk = config.processor, config.chunk_size
        images, side = processor.num_frames * len(processor.cameras), processor.image_size
        generator = torch.Generator().manual_seed(1)
        return ActionBatch(
            sample_ids=torch.arange(10, 10 + size),
            images=torch.rand(size, images, 3, side, side, generator=generator),
            instructions=[INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(size)],
            actions=torch.rand(size, chunk, 7, generator=generator) * 2 - 1,
            action_mask=torch.ones(size, chunk, dtype=torch.bool),
            proprio=torch.randn(size, 8, generator=generator) if processor.proprio else None,
            rng_seeds=torch.arange(100, 100 + size),
        )

    return make


@pytest.fixture
def tiny_model(tiny_config: AtlasVLAConfig) -> AtlasVLA:
    return AtlasVLA(tiny_config)
