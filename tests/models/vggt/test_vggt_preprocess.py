"""Image pre-processing against recorded shapes, statistics and pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vla.models.vggt.preprocess import load_and_preprocess_images, load_and_preprocess_images_square

CASES = json.loads((Path(__file__).resolve().parents[2] / "golden/vggt/vggt_preprocess_cases.json").read_text())
PIXEL = 4 / 255  # Pillow versions differ that much in bicubic resizing


def synthetic(width: int, height: int, mode: str) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    channels = [(3 * x + 5 * y + 40 * c + (x * y) // 7) % 256 for c in range(3)]
    if mode == "RGBA":
        channels.append((2 * x + y) % 256)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def name(case: dict) -> str:
    sizes = "_".join(f"{w}x{h}" for w, h in case["sizes_wh"])
    return f"{case.get('mode', 'square')}-{sizes}-{case['image_mode']}"


@pytest.mark.parametrize("case", CASES["cases"], ids=name)
def test_recorded_cases(case: dict) -> None:
    images = [synthetic(width, height, case["image_mode"]) for width, height in case["sizes_wh"]]
    if case["fn"] == "load_and_preprocess_images":
        result = load_and_preprocess_images(images, mode=case["mode"])
    else:
        result, coords = load_and_preprocess_images_square(images, target_size=case["target_size"])
        torch.testing.assert_close(coords, torch.tensor(case["coords"]))
    assert list(result.shape) == case["shape"]
    assert result.dtype == torch.float32
    assert result.mean().item() == pytest.approx(case["mean"], abs=1e-4)
    assert result.std().item() == pytest.approx(case["std"], abs=1e-4)
    for n, c, y, x, value in case["samples"]:
        assert result[n, c, y, x].item() == pytest.approx(value, abs=PIXEL)


def test_files_equal_images(tmp_path: Path) -> None:
    image = synthetic(60, 45, "RGBA")
    path = tmp_path / "image.png"
    image.save(path)
    assert torch.equal(load_and_preprocess_images([path]), load_and_preprocess_images([image]))


def test_other_target_size() -> None:
    assert load_and_preprocess_images([synthetic(60, 45, "RGB")], target_size=56).shape == (1, 3, 42, 56)


def test_bad_requests() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        load_and_preprocess_images([])
    with pytest.raises(ValueError, match="'crop' or 'pad'"):
        load_and_preprocess_images([synthetic(4, 4, "RGB")], mode="stretch")
    with pytest.raises(ValueError, match="target_size"):
        load_and_preprocess_images([synthetic(4, 4, "RGB")], target_size=500)
