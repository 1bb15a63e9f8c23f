"""Pictures as towers take them, compared with the published transforms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from language_files import GOLDEN, make_processor
from PIL import Image
from safetensors import safe_open

from vla.conf.models.vision import PixelTransform
from vla.data.language.image_transforms import square_images

OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TOWERS = {
    "clip": {"clip": OPENAI},
    "siglip": {"siglip": HALF},
    "dinov2": {"dinov2": IMAGENET},
    "in1k": {"in1k": HALF},
    "dinosiglip": {"dino": IMAGENET, "siglip": HALF},
}
STRATEGIES = ("letterbox", "resize-crop", "resize-naive")


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with safe_open(GOLDEN / "image_transforms.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("backbone", TOWERS)
def test_pixels_are_the_published_ones(golden: dict, backbone: str, strategy: str, name: str) -> None:
    transforms = {tower: PixelTransform(42, *numbers) for tower, numbers in TOWERS[backbone].items()}
    processor = make_processor(transforms=transforms, image_resize_strategy=strategy)
    images = processor.image(Image.fromarray(golden[f"in.{name}"].numpy()))
    pixels = processor.pixels({tower: torch.from_numpy(image.copy())[None] for tower, image in images.items()})
    assert list(pixels) == list(transforms)
    for tower, values in pixels.items():
        key = f"out.{backbone}.{strategy}.{name}"
        assert values.dtype == torch.float32 and values.is_contiguous()
        assert torch.equal(values[0], golden[key if len(pixels) == 1 else f"{key}.{tower}"])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (299, 20), (16, 16), (15, 16), (33, 17)])
def test_any_shape_becomes_a_square(strategy: str, size: tuple[int, int]) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    images = square_images(Image.fromarray(colours), {"a": PixelTransform(16, *OPENAI)}, strategy)
    assert images["a"].shape == (3, 16, 16) and images["a"].dtype == np.uint8
    if size == (16, 16):
        assert np.array_equal(images["a"], colours.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_mode(mode: str, tmp_path: Path) -> None:
    image = Image.new("I;16", (9, 6)) if mode == "I;16" else Image.new("RGB", (9, 6), (200, 10, 30)).convert(mode)
    assert square_images(image, {"a": PixelTransform(4, *HALF)}, "letterbox")["a"].shape == (3, 4, 4)


def test_equal_towers_share_their_image() -> None:
    image = Image.new("RGB", (80, 8), (1, 2, 3))
    transforms = {"a": PixelTransform(8, *HALF), "b": PixelTransform(8, *IMAGENET)}
    squeezed = square_images(image, transforms, "resize-naive")
    assert squeezed["a"] is squeezed["b"]
    framed = square_images(image, transforms, "letterbox")
    assert framed["a"][:, 0, 0].tolist() == [127, 127, 127] and framed["b"][:, 0, 0].tolist() == [123, 116, 103]


def test_memory_format_does_not_matter() -> None:
    processor = make_processor()
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    before = images.clone()
    channels_last = images.to(memory_format=torch.channels_last)
    first, second = (processor.pixels({"siglip": values})["siglip"] for values in (images, channels_last))
    assert torch.equal(first, second) and torch.equal(images, before) and json.dumps(first.shape) == "[2, 3, 8, 8]"
