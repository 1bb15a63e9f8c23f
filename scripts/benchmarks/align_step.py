"""Align-stage step of AtlasVLA: frozen results reused, against everything computed on each step as the original does.

The original's forward pass runs the VGGT aggregator twice, once by itself for the tokens and once inside the full model
with camera, depth and point heads, and the language model on every sample of every step. Both variants train the same
geometry encoder, fusion and action head with the same optimizer on the same batches; the frozen parts run without
gradients in both, and both give the same loss. Reused results come from memory, sample by sample; what it costs to
compute them, once for a whole training, is `once_s_per_sample`.

    python scripts/bench.py align-step [--size tiny|mid]
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vla.batches import ActionBatch
from vla.conf.models.atlas import AtlasVLAConfig, VGGTTinyConfig
from vla.models.backbones.vggt import get_vggt_spec
from vla.models.components.geometry_encoder import reduce_tokens
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.models.vggt import VGGT
from vla.models.vlas.atlas import AtlasVLA

INSTRUCTIONS = (
    "put the black bowl on the plate",
    "open the top drawer and put the bowl inside",
    "push the plate to the front of the stove",
)
EACH_TIME, REUSED = "everything each time", "frozen results reused"
Features = dict[str, Tensor]


def _mid_config() -> AtlasVLAConfig:
    """Between tiny and published: 224 pixels, an 8-block aggregator of width 384, an 8-layer language model."""
    tiny = VGGTTinyConfig()
    return replace(
        tiny,
        processor=replace(tiny.processor, image_size=224),
        vggt=replace(tiny.vggt, img_size=224, embed_dim=384, depth=8, num_heads=6, mlp_ratio=4.0),
        llm=replace(tiny.llm, hidden_size=512, intermediate_size=1376, num_layers=8, num_heads=8, num_kv_heads=8),
        geometry_encoder=replace(tiny.geometry_encoder, layers=(6, 7), dim=256),
        fusion=replace(tiny.fusion, dim=256, num_layers=4, num_heads=4),
        action_head=replace(tiny.action_head, hidden_dim=256),
    )


# configuration, batch size, number of batches, timed steps of each variant
SIZES: dict[str, tuple[Callable[[], AtlasVLAConfig], int, int, int]] = {
    "tiny": (VGGTTinyConfig, 16, 4, 12),
    "mid": (_mid_config, 4, 2, 4),
}


def run(size: str = "all", steps: int | None = None) -> dict[str, Any]:
    """Time both variants in turns, so that a change of the machine's load hits both.

    Args:
        size: `tiny` (the registered vggt-tiny), `mid`, or `all`.
        steps: Timed steps of each variant; None takes the size's own number.
    """
    names = list(SIZES) if size == "all" else [size]
    rows = [row for name in names for row in _compare(name, steps or SIZES[name][3])]
    return {"rows": rows, "ratio": min(row["ratio"] for row in rows if row["name"] == REUSED)}


def _compare(size: str, steps: int) -> list[dict[str, Any]]:
    """The rows of one size."""
    get_config, batch_size, num_batches, _ = SIZES[size]
    config = get_config()
    model = get_model(config, seed=0)
    assert isinstance(model, AtlasVLA)
    apply_stage(model, config.align)
    model.train()
    full_vggt = _full_vggt(model)
    batches = [_make_batch(config, batch_size, number) for number in range(num_batches)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0, fused=True)
    start = time.perf_counter()
    store = _compute_once(model, batches)
    first_pass = time.perf_counter() - start
    variants = {EACH_TIME: partial(_as_the_original, model, full_vggt), REUSED: partial(_reused, store)}
    times: dict[str, list[float]] = {name: [] for name in variants}
    losses: dict[str, float] = {}
    for number in range(steps + 1):
        batch = batches[number % num_batches]
        for name, features in variants.items():
            start = time.perf_counter()
            losses[name] = _step(model, optimizer, batch, features)
            if number:  # the first is a warm-up
                times[name].append(time.perf_counter() - start)
    medians = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    common = {
        "size": size,
        "image": config.processor.image_size,
        "parameters_m": sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        "batch": batch_size,
        "steps": steps,
    }
    once = {EACH_TIME: 0.0, REUSED: first_pass / (num_batches * batch_size)}
    return [
        {
            "name": name,
            **common,
            "step_s": medians[name],
            "ratio": medians[EACH_TIME] / medians[name],
            "once_s_per_sample": once[name],
            "loss": losses[name],
        }
        for name in variants
    ]


def _step(
    model: AtlasVLA, optimizer: torch.optim.Optimizer, batch: ActionBatch, features: Callable[[ActionBatch], Features]
) -> float:
    output = model(replace(batch, features=features(batch)))
    loss = output.step_loss.mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@torch.no_grad()
def _as_the_original(model: AtlasVLA, vggt: VGGT, batch: ActionBatch) -> Features:
    """The aggregator for the tokens, the full model with its dense heads for the pose, the LLM for every sample."""
    config = model.config
    tokens, patch_start, _ = vggt.encode(batch.images, layers=range(vggt.spec.depth))
    full = vggt(batch.images, outputs=("camera", "depth", "points"))
    side = config.processor.image_size // config.vggt.patch_size
    layers = [tokens[layer] for layer in config.geometry_encoder.layers]
    text = model.llm_backbone.tokenize(batch.instructions, config.processor.max_instruction_tokens)
    return {
        "vision_backbone.tokens": reduce_tokens(layers, patch_start, (side, side), config.geometry_encoder),
        "vision_backbone.pose": full["pose_enc"],
        "llm_backbone.tokens": model.llm_backbone(*text),
    }


def _compute_once(model: AtlasVLA, batches: list[ActionBatch]) -> dict[Any, Features]:
    """What the frozen groups give, by the keys of their feature sources."""
    store: dict[Any, Features] = {}
    for batch in batches:
        for source in model.feature_sources().values():
            features = source.compute(batch)
            for row, key in enumerate(source.keys(batch)):
                store.setdefault(key, {name: value[row].clone() for name, value in features.items()})
    return store


def _reused(store: dict[Any, Features], batch: ActionBatch) -> Features:
    images = [store[key] for key in batch.sample_ids.tolist()]
    texts = [store[key] for key in batch.instructions]
    return {name: torch.stack([row[name] for row in rows]) for rows in (images, texts) for name in rows[0]}


def _full_vggt(model: AtlasVLA) -> VGGT:
    """The model's VGGT with the dense heads that the original runs on every step."""
    spec = get_vggt_spec(model.config.vggt, use_camera=True, use_points=True)
    vggt = VGGT(replace(spec, enable_depth=True)).eval()
    vggt.load_state_dict(model.vision_backbone.state_dict(), strict=False)
    return vggt


def _make_batch(config: AtlasVLAConfig, size: int, number: int) -> ActionBatch:
    generator = torch.Generator().manual_seed(number)
    side, images = config.processor.image_size, config.processor.num_frames * len(config.processor.cameras)
    return ActionBatch(
        sample_ids=torch.arange(number * size, (number + 1) * size),
        images=torch.rand(size, images, 3, side, side, generator=generator),
        instructions=[INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(size)],
        actions=torch.rand(size, config.chunk_size, 7, generator=generator) * 2 - 1,
        action_mask=torch.ones(size, config.chunk_size, dtype=torch.bool),
        proprio=torch.randn(size, 8, generator=generator),
        rng_seeds=torch.arange(size),
    )
