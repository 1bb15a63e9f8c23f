"""Attention among documents: three ways to the same numbers, and what is never looked at."""

import pytest
import torch
from torch import Tensor

from vla.models.components.document_attention import Visibility, attend, block_mask, visibility

SEGMENTS = [(0, 0, 5), (0, 5, 6), (0, 6, 9), (1, 1, 4), (1, 6, 10)]
SIZE = (2, 10, 10)


def tensors(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Query [2, 10, 4, 8]; key and value [2, 10, 2, 8]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 10, 4, 8), (2, 10, 2, 8), (2, 10, 2, 8))
    query, key, value = (torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes)
    return query, key, value


def inside() -> Tensor:
    """bool [2, 10], True in documents."""
    mask = torch.zeros(2, 10, dtype=torch.bool)
    for row, first, end in SEGMENTS:
        mask[row, first:end] = True
    return mask


@pytest.mark.parametrize("kind", ["auto", "documents", "dense", "flex"])
def test_a_document_is_attended_to_as_if_it_were_alone(kind: str) -> None:
    query, key, value = tensors()
    out = attend(query, key, value, visibility(inside(), SEGMENTS, SIZE, kind))
    for row, first, end in SEGMENTS:
        alone = (tensor[row : row + 1, first:end] for tensor in (query, key, value))
        seen = visibility(None, None, (1, end - first, end - first))
        torch.testing.assert_close(out[row, first:end], attend(*alone, seen)[0], rtol=0, atol=1e-6)
    out[inside()].square().sum().backward()
    gradients = [tensor.grad for tensor in (query, key, value)]
    again = tensors()
    attend(*again, visibility(inside(), SEGMENTS, SIZE, "dense"))[inside()].square().sum().backward()
    for found, tensor in zip(gradients, again, strict=True):
        assert found is not None and found.isfinite().all()
        torch.testing.assert_close(found, tensor.grad, rtol=0, atol=1e-5)


def test_plain_causal_attention_with_padding_on_the_left() -> None:
    query, key, value = (tensor.detach() for tensor in tensors())
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, :4] = False
    out = attend(query, key, value, visibility(mask, None, SIZE))
    alone = attend(query[1:, 4:], key[1:, 4:], value[1:, 4:], visibility(None, None, (1, 6, 6)))
    torch.testing.assert_close(out[1:, 4:], alone, rtol=0, atol=1e-6)
    assert out.isfinite().all()


def test_new_tokens_see_all_that_came_before() -> None:
    query, key, value = (tensor.detach() for tensor in tensors())
    everything = attend(query, key, value, visibility(None, None, SIZE))
    for new in (1, 3):
        last = attend(query[:, -new:], key, value, visibility(None, None, (2, new, 10)))
        torch.testing.assert_close(last, everything[:, -new:], rtol=0, atol=1e-6)


def test_segments_out_of_order_are_refused() -> None:
    for segments in ([(0, 3, 6), (0, 0, 3)], [(0, 0, 11)], [(2, 0, 3)], [(0, 4, 4)]):
        with pytest.raises(ValueError, match="segments must be in order"):
            visibility(None, segments, SIZE)


@torch.no_grad()
def test_blocks_of_flex_attention() -> None:
    """Without gradients, which it knows on CUDA only."""
    query, key, value = (tensor.detach() for tensor in tensors())
    ids = torch.full((2, 10), -1)
    for number, (row, first, end) in enumerate(SEGMENTS):
        ids[row, first:end] = number
    out = attend(query, key, value, Visibility(blocks=block_mask(ids)))
    expected = attend(query, key, value, visibility(None, SEGMENTS, SIZE))
    torch.testing.assert_close(out[inside()], expected[inside()], rtol=0, atol=1e-6)
    assert out.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", ["documents", "dense", "flex"])
def test_on_a_gpu(kind: str) -> None:
    segments = [(0, 0, 300), (0, 300, 512), (1, 0, 50), (1, 50, 400)]
    shapes = ((2, 512, 4, 64), (2, 512, 2, 64), (2, 512, 2, 64))
    found = []
    for way in ("dense", kind):
        generator = torch.Generator("cuda").manual_seed(0)
        inputs = [torch.randn(s, generator=generator, device="cuda", requires_grad=True) for s in shapes]
        seen = visibility(None, segments, (2, 512, 512), way, "cuda")
        out = attend(*inputs, seen)[:, :400]  # type: ignore[arg-type]
        out.square().sum().backward()
        found.append([out, *(tensor.grad for tensor in inputs)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=5e-2)
