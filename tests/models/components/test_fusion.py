"""Both fusions: shapes, masks, checkpointing, published size."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla.conf.models.components import FusionConfig
from vla.models.components.fusion import get_fusion

CONFIG = FusionConfig(dim=32, num_layers=2, num_heads=4, num_queries=6)
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "atlas" / "losses.json").read_text())


def _inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    return torch.randn(2, 5, 24), mask, torch.randn(2, 7, 16)


@pytest.mark.parametrize(("direction", "tokens"), [("cross", 5), ("bidirectional", 6)])
def test_shapes_and_gradients(direction: str, tokens: int) -> None:
    fusion = get_fusion(replace(CONFIG, direction=direction), 24, 16)
    out = fusion(*_inputs())
    assert out.pooled.shape == (2, 32) and out.tokens.shape == (2, tokens, 32)
    out.pooled.square().sum().backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())


@pytest.mark.parametrize("direction", ["cross", "bidirectional"])
def test_padding_does_not_matter(direction: str) -> None:
    fusion = get_fusion(replace(CONFIG, direction=direction), 24, 16)
    language, mask, geometry = _inputs()
    changed = torch.where(mask[..., None], language, torch.full_like(language, 9.0))
    torch.testing.assert_close(fusion(language, mask, geometry).pooled, fusion(changed, mask, geometry).pooled)
    short = fusion(language[1:, :2], mask[1:, :2], geometry[1:]).pooled
    torch.testing.assert_close(fusion(language, mask, geometry).pooled[1:], short)


@pytest.mark.parametrize("direction", ["cross", "bidirectional"])
def test_checkpointing_gives_the_same_gradients(direction: str) -> None:
    fusion = get_fusion(replace(CONFIG, direction=direction), 24, 16)
    inputs, gradients = _inputs(), []
    for enabled in (False, True):
        fusion.gradient_checkpointing = enabled
        fusion.zero_grad()
        fusion(*inputs).pooled.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in fusion.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_published_size() -> None:
    with torch.device("meta"):
        fusion = get_fusion(FusionConfig(), 4096, 512)
    assert sum(parameter.numel() for parameter in fusion.parameters()) == GOLDEN["param_counts"]["fusion"]
