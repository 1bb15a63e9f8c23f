"""Robot data read by worker processes is what one process reads."""

from pathlib import Path

import pytest
import torch
from robot_files import shipped, write_lerobot_v21, write_lerobot_v30, write_rlds
from torch.utils.data import DataLoader

from vla.conf.datasets import LeRobotConfig, RLDSConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.data.materialize import get_datasets

MODEL = VGGTTinyConfig(processor=ProcessorConfig(image_size=28, num_frames=2))
WRITE = {
    "images": (LeRobotConfig, write_lerobot_v21),
    "video": (LeRobotConfig, write_lerobot_v30),
    "rlds": (RLDSConfig, write_rlds),
}


@pytest.mark.parametrize("layout", WRITE)
def test_workers_forked_after_reading_give_the_same(layout: str, tmp_path: Path) -> None:
    """Files and decoders that the parent has open are not shared."""
    config, write = WRITE[layout]
    data = get_datasets(config(root=write(tmp_path / "data", shipped(1, 2, 6)), preset="libero"), MODEL)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0)).tolist()
    alone = [data.train[index]["images"] for index in order]  # opens files
    loader = DataLoader(
        data.train, batch_size=None, sampler=order, num_workers=2, multiprocessing_context="fork", prefetch_factor=1
    )
    for expected, found in zip(alone, loader, strict=True):
        assert torch.equal(torch.as_tensor(found["images"]), torch.from_numpy(expected.copy()))
    assert data.train.read_counters["cached_bytes"] > 0 and "seeks" in data.train.read_counters or layout == "rlds"
    data.train.forget_frames()
    assert data.train.read_counters["cached_bytes"] == 0
