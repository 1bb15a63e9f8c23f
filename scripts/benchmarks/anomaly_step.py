"""Training step of UniAD without kept features, against the original's way of making its mask and attention.

The original builds the neighbour mask in Python loops in every forward pass, and its attention is not fused: products,
softmax and the weights' average over the heads; its frozen backbone runs norms by themselves; all is in fp32. Variants
run the same backbone, transformer, jitter, loss and optimizer on the same pictures, and give the same loss but for what
dropout draws and bf16 rounds. `reconstruction_s` is the part after the backbone. On a CPU, where time is processor
time, matrix products take most of it, in all.

    python scripts/bench.py anomaly-step [--model uniad-efficientnet-b4 --steps 3 --device cpu]
"""

from functools import partial
from typing import Any

import torch
from _own_process import seconds
from torch import Tensor, nn

from vla.batches import AnomalyBatch
from vla.conf.models import ModelConfig
from vla.models.anomaly.reconstruction import Reconstruction
from vla.models.anomaly.transformer import DecoderLayer, EncoderLayer
from vla.models.anomaly.uniad import FEATURES, UniAD
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.training.precision import autocast_context

ORIGINAL, OURS, BF16 = "as the original, fp32", "ours, fp32", "ours, bf16 but for the backbone"


def run(model: str = "uniad-efficientnet-b4", steps: int = 3, batch: int = 8, device: str = "cpu") -> dict[str, Any]:
    """Time all variants in turns, so that a change of the machine's load hits both.

    Args:
        model: of the UniAD family; its weights start at random.
        steps: timed steps of each variant.
        batch: pictures of a step.
        device: cpu | cuda.
    """
    config = ModelConfig.get_choice_class(model)(pretrained=False)
    variants: dict[str, UniAD] = {}
    for name in (ORIGINAL, OURS, BF16):
        built = get_model(config, device=device, seed=0)
        assert isinstance(built, UniAD)
        apply_stage(built, config.align)
        variants[name] = built.train()
    _as_the_original(variants[ORIGINAL])
    optimizers = {name: torch.optim.AdamW(net.reconstruction.parameters(), lr=0.0) for name, net in variants.items()}
    data = _make_batch(config.processor.input_size, batch).to(device)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    losses = {}
    for number in range(steps + 1):
        for name, net in variants.items():
            torch.manual_seed(number)
            whole, part, losses[name] = _step(net, optimizers[name], data, "bf16" if name == BF16 else "fp32")
            if number:  # the first is a warm-up
                times[name].append((whole, part))
    rows = []
    for name, values in times.items():
        whole, part = (sorted(column)[len(values) // 2] for column in zip(*values, strict=True))
        rows.append({"name": name, "step_s": whole, "reconstruction_s": part, "loss": losses[name]})
    return {"rows": rows, "baseline": ORIGINAL, "measure": "step_s", "model": model, "batch": batch}


def _step(
    model: UniAD, optimizer: torch.optim.Optimizer, batch: AnomalyBatch, precision: str
) -> tuple[float, float, float]:  # fmt: skip
    device = batch.images.device.type
    start = seconds(device)
    batch.features = {FEATURES: model.features_of(batch.images)}
    middle = seconds(device)
    with autocast_context(precision, device):
        loss = model(batch).sample_loss.mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.reconstruction.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()
    value = loss.item()
    batch.features = {}
    end = seconds(device)
    return end - start, end - middle, value


def _as_the_original(model: UniAD) -> None:
    """Make every forward pass build the mask anew, attention give its weights, and norms run by themselves."""
    for block in model.vision_backbone.modules():
        if type(block).__name__.startswith("Folding"):
            block.__class__ = type(block).__mro__[2]
    reconstruction: Reconstruction = model.reconstruction
    height, width = reconstruction.feature_size
    assert model.config.reconstruction.neighbor_mask is not None
    size = model.config.reconstruction.neighbor_mask.neighbor_size

    def rebuild(module: Any, inputs: Any) -> None:
        module.blocked = _mask_in_loops(height, width, size).to(inputs[0].device)

    reconstruction.register_forward_pre_hook(rebuild)
    for layer in reconstruction.modules():
        if isinstance(layer, EncoderLayer | DecoderLayer):
            layer._attend = partial(_unfused, layer)  # type: ignore[method-assign]
            layer._mlp = partial(_plain_mlp, layer)  # type: ignore[method-assign]


def _mask_in_loops(height: int, width: int, size: tuple[int, int]) -> Tensor:
    mask = torch.ones(height, width, height, width)
    for y in range(height):
        for x in range(width):
            top, bottom = max(y - size[0] // 2, 0), min(y + size[0] // 2 + 1, height)
            left, right = max(x - size[1] // 2, 0), min(x + size[1] // 2 + 1, width)
            mask[y, x, top:bottom, left:right] = 0
    return mask.reshape(height * width, height * width) == 0


def _unfused(layer: Any, attention: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    query = query.expand_as(key)
    found = nn.MultiheadAttention.forward(attention, query, key, value, attn_mask=mask, need_weights=True)
    return nn.functional.dropout(found[0], layer.dropout.p)


def _plain_mlp(layer: Any, x: Tensor) -> Tensor:
    dropout = partial(nn.functional.dropout, p=layer.dropout.p)
    return dropout(layer.linear2(dropout(layer.activation(layer.linear1(x)))))


def _make_batch(size: tuple[int, int], count: int) -> AnomalyBatch:
    return AnomalyBatch(
        torch.arange(count), torch.randn(count, 3, *size), torch.zeros(count, *size, dtype=torch.bool),
        torch.zeros(count, dtype=torch.int64), ["a"] * count, ["a.png"] * count,
        torch.ones(count, dtype=torch.bool), torch.arange(count),
    )  # fmt: skip
