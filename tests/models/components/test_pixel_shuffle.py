"""Pixel shuffle: which patches become one token, and in which order."""

import pytest
import torch

from vla.models.components.pixel_shuffle import PixelShuffleProjector, pixel_shuffle


def test_squares_of_patches_become_tokens_row_by_row() -> None:
    patches = torch.arange(16).view(1, 16, 1) * torch.tensor([1, 100])  # a grid of 4 x 4 with two channels
    tokens = pixel_shuffle(patches, 2)
    assert tokens.shape == (1, 4, 8)
    assert tokens[0, 0].tolist() == [0, 0, 1, 100, 4, 400, 5, 500]
    assert tokens[0, 1, ::2].tolist() == [2, 3, 6, 7]
    assert tokens[0, 2, ::2].tolist() == [8, 9, 12, 13]
    assert torch.equal(pixel_shuffle(patches, 1), patches)


def test_grids_that_can_not_be_cut_are_refused() -> None:
    for count, factor in ((15, 1), (9, 2)):
        with pytest.raises(ValueError, match="square grid"):
            pixel_shuffle(torch.zeros(1, count, 3), factor)


def test_projector_is_linear_without_bias() -> None:
    projector = PixelShuffleProjector(3, 5, 2)
    assert [name for name, _ in projector.named_parameters()] == ["proj.weight"]
    assert projector(torch.zeros(2, 16, 3)).abs().sum() == 0 and projector(torch.ones(2, 16, 3)).shape == (2, 4, 5)
