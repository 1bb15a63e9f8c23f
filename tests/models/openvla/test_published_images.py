"""Image operations at evaluation: TensorFlow's results, to the bit, without TensorFlow."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vla.conf.models.base import ProcessorConfig
from vla.data.jpeg import jpeg_round_trip
from vla.data.processor import Processor
from vla.data.published_images import center_crop, lanczos3_resize
from vla.data.statistics import ArrayStatistics


def planes(image: np.ndarray) -> torch.Tensor:
    """[3, H, W] of [H, W, 3]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


@pytest.fixture(scope="module")
def stored(golden_folder: Path) -> Any:
    return np.load(golden_folder / "eval_image_ops.npz")


def test_jpeg_and_resize_are_tensorflows(stored: Any) -> None:
    decoded = jpeg_round_trip(planes(stored["resize_in"]))
    resized = lanczos3_resize(decoded, (56, 56))
    assert torch.equal(resized, planes(stored["resize_jpeg_lanczos3_56"]).float())


def test_center_crop_is_tensorflows(stored: Any) -> None:
    cropped = center_crop(planes(stored["center_crop_in"]).float(), 0.9)
    assert torch.equal(cropped, planes(stored["center_crop_out"]).float())


@pytest.mark.parametrize("size", [(16, 16), (37, 50), (9, 15), (1, 1), (48, 33)])
@pytest.mark.parametrize("quality", [95, 40])
def test_jpeg_is_near_pillows(size: tuple[int, int], quality: int) -> None:
    """Pillow decodes by another inverse transform, which differs by a few levels; sizes need not be whole blocks."""
    ramp = np.add.outer(np.arange(size[0]) * 3, np.arange(size[1]) * 2)[..., None] * [1, 0.7, 0.5]
    file = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(file, "JPEG", quality=quality, subsampling=2)
    pillow = np.array(Image.open(file)).astype(int)
    found = jpeg_round_trip(planes(ramp.astype(np.uint8)), quality).permute(1, 2, 0).numpy()
    assert np.abs(found - pillow).max() <= 12 and np.abs(found - pillow).mean() < 2.5


def test_batches_give_what_single_images_give() -> None:
    images = torch.randint(256, (2, 3, 3, 40, 52), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    channels_last = images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    decoded = jpeg_round_trip(images)
    assert torch.equal(jpeg_round_trip(channels_last), decoded)
    assert torch.equal(decoded[1, 2], jpeg_round_trip(images[1, 2]))
    resized = lanczos3_resize(decoded, (28, 28))
    assert torch.equal(resized[1, 2], lanczos3_resize(decoded[1, 2], (28, 28)))
    assert torch.equal(center_crop(resized, 0.9)[1, 2], center_crop(resized[1, 2], 0.9))


def test_nothing_to_do() -> None:
    images = torch.randint(256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(lanczos3_resize(images, (20, 30)), images.float())
    assert torch.equal(center_crop(images.float(), 1.0), images.float())
    flat = torch.full((3, 16, 16), 77, dtype=torch.uint8)
    assert torch.equal(jpeg_round_trip(flat), flat)


@pytest.mark.parametrize("function", [jpeg_round_trip, lambda images: lanczos3_resize(images, (4, 4))])
def test_only_stored_images_are_taken(function: Any) -> None:
    with pytest.raises(TypeError, match="uint8"):
        function(torch.zeros(3, 8, 8))


def test_the_processor_does_all_of_it(stored: Any) -> None:
    """Turned by 180 degrees, JPEG, resized, cropped: the published order."""
    statistics = {"actions": ArrayStatistics.of(np.zeros((2, 7), dtype=np.float32))}
    config = ProcessorConfig(
        orientation="rotate_180", jpeg_quality=95, resize="lanczos3", image_size=56, center_crop=0.9
    )
    turned = planes(stored["resize_in"]).flip(-2, -1)
    resized = planes(stored["resize_jpeg_lanczos3_56"]).float()
    found = Processor(config, 1, statistics).images(turned[None])
    assert torch.equal(found[0], center_crop(resized, 0.9) / 255)
    whole = Processor(replace(config, center_crop=None), 1, statistics).images(turned[None])
    assert torch.equal(whole[0], resized / 255)


@pytest.mark.parametrize(("field", "value"), [("jpeg_quality", 0), ("center_crop", 1.5), ("center_crop", 0.0)])
def test_values_out_of_range(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field}: must be in"):
        ProcessorConfig(**{field: value})
