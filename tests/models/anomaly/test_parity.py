"""Neck, transformer, jitter, map and loss against numbers recorded from the published code."""

import pytest
import torch
from uniad_golden import ATOL, make_neck, make_reconstruction, read_golden

from vla.models.anomaly.criterion import feature_mse
from vla.models.anomaly.positions import blocked_neighbors
from vla.models.anomaly.reconstruction import add_jitter, anomaly_map

CASES = [
    ("uniad_dev.safetensors", "main"),
    ("uniad_dev.safetensors", "nomask"),
    ("uniad_dev.safetensors", "encmask_only"),
    ("uniad_dev_sine_prenorm.safetensors", "main"),
]
FILES = sorted({file for file, _ in CASES})


@pytest.mark.parametrize(("file", "variant"), CASES)
def test_forward_loss_and_gradients(file, variant):
    golden = read_golden(file)
    module = make_reconstruction(golden, golden.config["variants"][variant])
    features = make_neck(golden.config)(list(golden.outputs("input.features").values()))
    layers: dict[str, torch.Tensor] = {}
    for stack in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(module.transformer, stack).layers):
            layer.register_forward_hook(lambda _, __, out, key=f"{stack}.{number}": layers.update({key: out}))
    module.transformer.register_forward_hook(lambda _, __, out: layers.update({"decoder_out": out}))
    rebuilt = module(features)
    loss = feature_mse(rebuilt, features).mean()
    loss.backward()

    expected = golden.outputs(f"output.{variant}")
    ours = {key: value.transpose(0, 1) for key, value in layers.items()}
    ours |= {"feature_rec": rebuilt, "loss": loss, "feature_align": features}
    ours["pred"] = anomaly_map(rebuilt, features, golden.config["outstride"])[:, None]
    gradients = {f"grad.{name}": parameter.grad for name, parameter in module.named_parameters()}
    total = torch.stack([grad.double().square().sum() for grad in gradients.values()]).sum().sqrt()
    ours |= gradients | {"grad_total_norm": total}
    assert len(expected) >= 10
    for name, value in expected.items():
        torch.testing.assert_close(
            ours[name], value.to(ours[name].dtype), rtol=0, atol=ATOL, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("file", FILES)
def test_positions_mask_and_jitter(file):
    golden = read_golden(file)
    units, values = golden.outputs("unit"), golden.config
    module = make_reconstruction(golden, [True, True, True])
    torch.testing.assert_close(module.pos_embed(), units["pos_embed"], rtol=0, atol=ATOL)
    mask = blocked_neighbors(tuple(values["feature_size"]), tuple(values["neighbor_size"]))
    assert torch.equal(mask, units["attn_blocked"])
    jittered = add_jitter(units["jitter_tokens"], units["jitter_noise"], 20.0)
    torch.testing.assert_close(jittered, units["jitter_out_scale20"], rtol=0, atol=ATOL)


def test_published_mask_of_the_14_x_14_map():
    blocked = blocked_neighbors((14, 14), (7, 7)).sum(dim=1).unflatten(0, (14, 14))
    assert (blocked[7, 7], blocked[0, 7], blocked[0, 0]) == (49, 28, 16)
