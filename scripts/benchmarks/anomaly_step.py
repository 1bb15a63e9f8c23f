"""Training step of UniAD without kept features, against the original's way of making its mask and attention.

The original builds the neighbour mask in Python loops in every forward pass, and its attention is not fused: products,
softmax and the weights' average over the heads. Both variants run the same frozen backbone, transformer, jitter, loss
and optimizer on the same pictures, and give the same loss but for what dropout draws. `reconstruction_s` is the part
after the backbone. On a CPU matrix products take most of it, in both.

    python scripts/bench.py anomaly-step [--model uniad-efficientnet-b4 --steps 3 --device cpu]
"""

import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vla.batches import AnomalyBatch
from vla.conf.models import ModelConfig
from vla.models.anomaly.reconstruction import Reconstruction
from vla.models.anomaly.transformer import DecoderLayer, EncoderLayer
from vla.models.anomaly.uniad import FEATURES, UniAD
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model

ORIGINAL, OURS = "loops and unfused attention", "buffer and fused attention"


def run(model: str = "uniad-efficientnet-b4", steps: int = 3, batch: int = 8, device: str = "cpu") -> dict[str, Any]:
    """Time both variants in turns, so that a change of the machine's load hits both.

    Args:
        model: of the UniAD family; its weights start at random.
        steps: timed steps of each variant.
        batch: pictures of a step.
        device: cpu | cuda.
    """
    config = ModelConfig.get_choice_class(model)(pretrained=False)
    variants: dict[str, UniAD] = {}
    for name in (ORIGINAL, OURS):
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
            seconds, part, losses[name] = _step(net, optimizers[name], data)
            if number:  # the first is a warm-up
                times[name].append((seconds, part))
    rows = []
    for name, values in times.items():
        whole, part = (sorted(column)[len(values) // 2] for column in zip(*values, strict=True))
        rows.append({"name": name, "step_s": whole, "reconstruction_s": part, "loss": losses[name]})
    return {"rows": rows, "baseline": ORIGINAL, "measure": "step_s", "model": model, "batch": batch}


def _step(model: UniAD, optimizer: torch.optim.Optimizer, batch: AnomalyBatch) -> tuple[float, float, float]:
    start = time.perf_counter()
    batch.features = {FEATURES: model.features_of(batch.images)}
    if batch.images.is_cuda:
        torch.cuda.synchronize()
    middle = time.perf_counter()
    loss = model(batch).sample_loss.mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.reconstruction.parameters(), 0.1)
    optimizer.step()
    optimizer.zero_grad()
    value = loss.item()
    batch.features = {}
    end = time.perf_counter()
    return end - start, end - middle, value


def _as_the_original(model: UniAD) -> None:
    """Make every forward pass build the mask anew, and attention give its weights."""
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


def _mask_in_loops(height: int, width: int, size: tuple[int, int]) -> Tensor:
    mask = torch.ones(height, width, height, width)
    for y in range(height):
        for x in range(width):
            top, bottom = max(y - size[0] // 2, 0), min(y + size[0] // 2 + 1, height)
            left, right = max(x - size[1] // 2, 0), min(x + size[1] // 2 + 1, width)
            mask[y, x, top:bottom, left:right] = 0
    return mask.reshape(height * width, height * width) == 0


def _unfused(layer: Any, attention: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return layer.dropout(attention(query, key, value, attn_mask=mask, need_weights=True)[0])


def _make_batch(size: tuple[int, int], count: int) -> AnomalyBatch:
    return AnomalyBatch(
        torch.arange(count), torch.randn(count, 3, *size), torch.zeros(count, *size, dtype=torch.bool),
        torch.zeros(count, dtype=torch.int64), ["a"] * count, ["a.png"] * count,
        torch.ones(count, dtype=torch.bool), torch.arange(count),
    )  # fmt: skip
