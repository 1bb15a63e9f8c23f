"""Resizing is Pillow's, to the bit, and doesn't depend on how images are batched or laid out."""

import numpy as np
import pytest
import torch
from PIL import Image

from vla.data.resize import KERNELS, resize, resize_matrix

PILLOW = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True), (False, True)])
@pytest.mark.parametrize("size", [(112, 112), (224, 224), (37, 37), (90, 128)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_pillow(noise: np.ndarray, kernel: str, size: tuple[int, int], flips: tuple[bool, bool]) -> None:
    turned = noise[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
    expected = np.asarray(Image.fromarray(np.ascontiguousarray(turned)).resize(size[::-1], PILLOW[kernel]))
    resized = resize(torch.from_numpy(noise).permute(2, 0, 1), size, kernel, *flips)
    assert resized.dtype == torch.float32
    assert resized.is_contiguous()
    assert np.array_equal(resized.permute(1, 2, 0).numpy(), expected)


def test_batch_and_layout_make_no_difference(noise: np.ndarray) -> None:
    last = torch.from_numpy(np.stack([np.roll(noise, i, axis=0) for i in range(12)])).view(3, 4, *noise.shape)
    batch = last.permute(0, 1, 4, 2, 3)
    together = resize(batch, (56, 56), "bicubic")
    assert together.shape == (3, 4, 3, 56, 56)
    assert torch.equal(together, resize(batch.contiguous(), (56, 56), "bicubic"))
    assert torch.equal(together[2, 1], resize(batch[2, 1], (56, 56), "bicubic"))


def test_autocast_does_not_reach_it(noise: np.ndarray) -> None:
    image = torch.from_numpy(noise).permute(2, 0, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = resize(image, (56, 56), "lanczos")
    assert torch.equal(inside, resize(image, (56, 56), "lanczos"))


def test_same_size_is_a_copy(noise: np.ndarray) -> None:
    image = torch.from_numpy(noise).permute(2, 0, 1)
    assert torch.equal(resize(image, (90, 128), "bicubic"), image.float())


def test_rows_of_weights_sum_to_one() -> None:
    for kernel in KERNELS:
        assert torch.allclose(resize_matrix(128, 50, kernel, True).sum(dim=1), torch.ones(50).double(), atol=1e-5)


def test_only_bytes_are_taken() -> None:
    with pytest.raises(TypeError, match="must be uint8, got torch.float32"):
        resize(torch.zeros(3, 8, 8), (4, 4), "bicubic")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_bits_on_a_gpu(noise: np.ndarray) -> None:
    image = torch.from_numpy(noise).permute(2, 0, 1)
    for kernel in KERNELS:
        assert torch.equal(
            resize(image.cuda(), (224, 224), kernel, True).cpu(), resize(image, (224, 224), kernel, True)
        )
