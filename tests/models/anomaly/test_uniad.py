"""UniAD as a model of the toolkit: its parts from their list, freezing, noise, features, and what its sizes must be."""

from dataclasses import replace

import pytest
import torch
from uniad_golden import GOLDEN

from vla.batches import AnomalyBatch
from vla.conf.models.anomaly_parts import CriterionConfig, NeighborMaskConfig
from vla.conf.models.uniad import UniADEfficientNetB4Config, UniADTinyConfig
from vla.models.anomaly.criterion import apply_criteria
from vla.models.anomaly.reconstruction import jitter_features
from vla.models.anomaly.uniad import FEATURES, UniAD
from vla.models.freezing import apply_stage
from vla.models.materialize import WeightsNotFound, get_model


def make_batch(size: int = 3) -> AnomalyBatch:
    generator = torch.Generator().manual_seed(1)
    return AnomalyBatch(
        torch.arange(size), torch.randn(size, 3, 64, 64, generator=generator),
        torch.zeros(size, 64, 64, dtype=torch.bool), torch.zeros(size, dtype=torch.int64), ["a"] * size,
        ["a.png"] * size, torch.ones(size, dtype=torch.bool), torch.arange(100, 100 + size),
    )  # fmt: skip


@pytest.fixture
def tiny() -> UniAD:
    model = get_model(UniADTinyConfig())
    apply_stage(model, model.config.align)
    return model.train()


def test_published_sizes():
    import json

    published = json.loads((GOLDEN / "uniad_mvtec_state_dict.json").read_text())["reconstruction"]
    model = get_model(UniADEfficientNetB4Config(), device="meta")
    ours = {name: list(value.shape) for name, value in model.reconstruction.state_dict().items()}
    assert ours == published["state_dict"]
    assert sum(parameter.numel() for parameter in model.reconstruction.parameters()) == published["total_params"]
    assert [model.neck.outplanes, model.neck.outstrides] == [published["inplanes"], published["instrides"]]


def test_layers_of_a_stack_start_alike_where_published_ones_do():
    reconstruction = get_model(UniADTinyConfig()).reconstruction
    for stack in (reconstruction.transformer.encoder, reconstruction.transformer.decoder):
        one, other = stack.layers
        assert torch.equal(one.self_attn.in_proj_weight, other.self_attn.in_proj_weight)
        assert not torch.equal(one.linear1.weight, other.linear1.weight)
        assert not one.linear1.bias.any() and not one.self_attn.out_proj.bias.any()
    one, other = reconstruction.transformer.decoder.layers
    assert torch.equal(one.learned_embed.weight, other.learned_embed.weight)


def test_training_gives_losses_and_evaluation_maps(tiny):
    batch = make_batch()
    output = tiny(batch)
    assert (
        output.sample_loss.shape == (3,) and output.anomaly_maps is None and set(output.sample_logs) == {"feature_mse"}
    )
    output.sample_loss.sum().backward()
    assert all(parameter.grad is not None for parameter in tiny.reconstruction.parameters())
    assert all(parameter.grad is None for parameter in tiny.vision_backbone.parameters())
    maps = tiny.eval()(batch).anomaly_maps
    assert maps.shape == (3, 64, 64) and torch.equal(tiny.predict(batch), maps)


def test_kept_features_stand_for_the_pictures(tiny):
    batch = make_batch()
    source = tiny.feature_sources()["vision_backbone"]
    features = source.compute(batch)
    assert features[FEATURES].shape == (3, 80, 8, 8) and source.keys(batch) == [0, 1, 2]
    kept = replace(batch, images=torch.zeros_like(batch.images), features=features)
    torch.testing.assert_close(tiny(kept).sample_loss, tiny(batch).sample_loss)


def test_a_backbone_that_trains_gets_its_gradient_through_the_reconstruction_alone(tiny):
    apply_stage(tiny, tiny.config.full_finetune)
    batch = make_batch(2)
    tiny(batch).sample_loss.sum().backward()
    weight = tiny.vision_backbone.conv_stem.weight
    assert weight.grad is not None and weight.grad.abs().sum() > 0
    tiny.zero_grad()
    for parameter in tiny.reconstruction.output_proj.parameters():
        torch.nn.init.zeros_(parameter)  # nothing of the input comes through any more
    tiny(batch).sample_loss.sum().backward()
    assert weight.grad is None or not weight.grad.any()


def test_noise_belongs_to_the_sample():
    tokens = torch.randn(4, 6, 5)
    seeds = torch.tensor([3, 1, 4, 1])
    whole = jitter_features(tokens, seeds, 20.0, 0.5)
    alone = torch.cat([jitter_features(tokens[i : i + 1], seeds[i : i + 1], 20.0, 0.5) for i in range(4)])
    torch.testing.assert_close(whole, alone)
    assert torch.equal(jitter_features(tokens, seeds, 20.0, 0.0), tokens)
    noise = jitter_features(torch.ones(400, 6, 5), torch.arange(400), 20.0, 1.0) - 1
    assert noise.std() == pytest.approx(20.0 * 5**0.5 / 5, rel=0.05)
    untouched = (
        (jitter_features(tokens[:1].expand(400, -1, -1), torch.arange(400), 20.0, 0.25) == tokens[0]).all(2).all(1)
    )
    assert untouched.float().mean() == pytest.approx(0.75, abs=0.08)


def test_criteria_are_summed_by_their_weights():
    rebuilt, features = torch.randn(2, 5, 3, 3, requires_grad=True), torch.randn(2, 5, 3, 3)
    criteria = (CriterionConfig(), CriterionConfig("l1", 0.5), CriterionConfig("cosine", 2.0, "angle"))
    total, logs = apply_criteria(criteria, rebuilt, features)
    difference = rebuilt - features
    cosine = (rebuilt * features).sum(1) / (rebuilt.norm(dim=1) * features.norm(dim=1))
    expected = {
        "feature_mse": difference.pow(2).mean((1, 2, 3)), "l1": difference.abs().mean((1, 2, 3)),
        "angle": 1 - cosine.mean((1, 2)),
    }  # fmt: skip
    assert set(logs) == set(expected) and not any(value.requires_grad for value in logs.values())
    for name, value in expected.items():
        torch.testing.assert_close(logs[name], value.detach())
    torch.testing.assert_close(total, expected["feature_mse"] + 0.5 * expected["l1"] + 2 * expected["angle"])


def test_gradient_checkpointing_gives_the_same_gradients(tiny):
    gradients = []
    for enabled in (False, True):
        tiny.set_gradient_checkpointing(enabled)
        tiny.zero_grad()
        tiny(make_batch()).sample_loss.sum().backward()
        gradients.append(tiny.reconstruction.input_proj.weight.grad.clone())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {"net": c.net[:2]}, r"net: must be one part each of vision_backbone, neck, reconstruction"),
        (lambda c: {"net": c.net[::-1]}, r"net: must be one part each"),
        (
            lambda c: {"net": (c.net[0], replace(c.net[1], prev="nck"), c.net[2])},
            r"net\[1\].prev: must name .* backbone",
        ),
        (lambda c: {"net": (c.net[0], c.net[1], replace(c.net[2], name="neck"))}, r"net\[2\].name: must be unlike"),
        (lambda c: {"processor": replace(c.processor, input_size=(60, 64))}, r"processor.input_size: .*stride \(8\)"),
        (
            lambda c: {"net": (*c.net[:2], replace(c.net[2], neighbor_mask=NeighborMaskConfig((9, 9))))},
            r"net\[2\].neighbor_mask.neighbor_size: must leave something of the 8 x 8 map",
        ),
        (lambda c: {"criterion": (CriterionConfig(), CriterionConfig())}, "criterion: must have different names"),
        (lambda c: {"criterion": ()}, "criterion: must name at least one loss"),
    ],
)
def test_configurations_that_can_not_work(change, message):
    config = UniADTinyConfig()
    with pytest.raises(ValueError, match=message):
        replace(config, **change(config))
    replace(config, net=(*config.net[:2], replace(config.net[2], neighbor_mask=NeighborMaskConfig((9, 7)))))


def test_weights_that_can_not_be_had_are_found_out_before_anything_is_built(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = UniADEfficientNetB4Config()
    with pytest.raises(
        WeightsNotFound, match="model.backbone_weights: 'timm/tf_efficientnet_b4.aa_in1k' .*pass --model."
    ):
        get_model(config)
    with pytest.raises(WeightsNotFound, match="model.backbone_weights: '.*none.pth' does not exist"):
        get_model(replace(config, backbone_weights=str(tmp_path / "none.pth")))
