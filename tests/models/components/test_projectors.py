"""Projectors: published tensors, and the values that they start from."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vla.models.components.projectors import Projector

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "prismatic" / "projectors_and_freezing.json"
SHAPES = json.loads(GOLDEN.read_text())["projector_state_dicts"]


@pytest.mark.parametrize("name", SHAPES)
def test_published_tensors(name: str) -> None:
    kind, sizes = name.split(" ")[:2]
    vision_dim, llm_dim = map(int, sizes.split("->"))
    with torch.device("meta"):
        projector = Projector(kind, vision_dim, llm_dim)
    assert {key: list(value.shape) for key, value in projector.state_dict().items()} == SHAPES[name]
    assert projector(torch.empty(2, 3, vision_dim, device="meta")).shape == (2, 3, llm_dim)


def test_it_starts_from_the_published_values_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    projector = Projector("gelu-mlp", 24, 16)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(24)  # as the published constructor does
    expected = nn.Sequential(nn.Linear(24, 16), nn.GELU(), nn.Linear(16, 16))
    for ours, theirs in zip(projector.projector.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_no_such_kind() -> None:
    with pytest.raises(ValueError, match="must be one of linear, gelu-mlp, fused-gelu-mlp, got 'mlp'"):
        Projector("mlp", 8, 8)
