"""The factory: repeatable, and it looks for weights before it builds anything."""

from dataclasses import replace

import pytest
import torch

from vla.conf.models.atlas import AtlasVLAConfig, VGGTLlama7BConfig, VGGTSmolLM135MConfig
from vla.models.materialize import WeightsNotFound, get_model


def test_a_seed_gives_the_same_weights_and_leaves_the_generator_alone(tiny_config: AtlasVLAConfig) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = get_model(tiny_config, seed=3).state_dict()
    assert torch.equal(torch.rand(1), expected)
    second, other = get_model(tiny_config, seed=3).state_dict(), get_model(tiny_config, seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_missing_weights_stop_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("vla.models.vlas.atlas.AtlasVLA.__init__", lambda *args, **kwargs: pytest.fail("built"))
    config = VGGTLlama7BConfig()
    config = replace(config, llm=replace(config.llm, weights="/nowhere"), vggt=replace(config.vggt, weights=None))
    with pytest.raises(
        WeightsNotFound, match=r"^model.llm.weights: '/nowhere' does not exist; pass --model.llm.weights"
    ):
        get_model(config)


@pytest.mark.parametrize(
    ("config", "parameters"), [(VGGTLlama7BConfig(), 6_607_343_616), (VGGTSmolLM135MConfig(), 134_515_008)]
)
def test_meta_needs_no_weights(config: AtlasVLAConfig, parameters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The language models have the published sizes (LLaMA-2-7B without its output layer; SmolLM2 ties its own)."""
    monkeypatch.setattr("vla.models.weights_source._locate", lambda *args: pytest.fail("weights were looked for"))
    model = get_model(config, device="meta")
    assert sum(parameter.numel() for parameter in model.llm_backbone.parameters()) == parameters


def test_random_real_shapes_are_not_looked_up(tiny_config: AtlasVLAConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla.models.weights_source._locate", lambda *args: pytest.fail("weights were looked for"))
    llm = replace(tiny_config.llm, weights="owner/unreachable", tokenizer=None)
    model = get_model(replace(tiny_config, llm=llm, pretrained=False))
    assert model.llm_backbone.hidden_size == 64 and len(model.tokenizer) == 259
