"""Actions of OpenVLA-OFT, all of a chunk at once, against the same model's decoding of one action token after another.

    python scripts/bench.py openvla-generation
    python scripts/bench.py openvla-generation --size 7b --device cuda

One observation, one image, no robot state, weights at random; from the prepared image to the actions, after a warm-up.
All rows share the vision backbone, the projector and the language model. Published, on an A100 with 7B parameters
(arXiv 2502.19645): 4.2 actions per second for one action per query, 108.8 for a chunk of 8 action tokens at once,
109.7 with the L1 head, 4.2 with 50 diffusion steps; 26 times.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from vla.batches import ActionBatch
from vla.conf.models.language import LlamaTinyConfig
from vla.conf.models.lora import LoRAConfig
from vla.conf.models.openvla import OpenVLA7BConfig, OpenVLAConfig, OpenVLATinyConfig
from vla.conf.models.openvla_oft import (
    DiffusionHeadConfig,
    DiscreteHeadConfig,
    L1HeadConfig,
    OFTHeadConfig,
    OpenVLAOFT7BConfig,
)
from vla.conf.models.vision_backbones import SigLIPViTB224Config
from vla.models.materialize import get_model

INSTRUCTION = "pick up the alphabet soup and place it in the basket"
ONE, CHUNK = "one token after the other, an action per query", "one token after the other, a chunk per query"


def small() -> OpenVLAConfig:
    """SigLIP ViT-B/16 and a language model of SmolLM2-135M's shape."""
    llm = replace(
        LlamaTinyConfig(), vocab_size=32000, hidden_size=576, intermediate_size=1536, num_layers=30, num_heads=9,
        num_kv_heads=3,
    )  # fmt: skip
    base = OpenVLATinyConfig()
    return replace(
        base, vision_backbone=SigLIPViTB224Config(), llm_backbone=llm, arch_specifier="gelu-mlp",
        processor=replace(base.processor, image_size=224),
    )  # fmt: skip


SIZES: dict[str, Callable[[], OpenVLAConfig]] = {"tiny": OpenVLATinyConfig, "small": small, "7b": OpenVLA7BConfig}


def run(
    size: str = "small", chunk: int = 8, repeats: int = 5, diffusion_steps: int = 50, device: str = "cpu"
) -> dict[str, Any]:
    """Measure every way to a chunk of actions.

    Args:
        size: tiny | small | 7b.
        chunk: actions.
        repeats: measurements of every way, of which the median counts; one comes before that does not count.
        diffusion_steps: of the diffusion head; 0 leaves it out.
        device: cpu | cuda; on CUDA in bf16.
    """
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    plain = replace(SIZES[size](), pretrained=False, weights=None, num_actions=chunk)
    shared = get_model(plain).to(device, dtype).eval()
    single = with_parts(get_model(replace(plain, num_actions=1), device="meta"), shared)
    width = min(4096, 4 * shared.llm_backbone.hidden_size)  # type: ignore[union-attr, operator]
    ways: dict[str, tuple[Any, int]] = {ONE: (single, chunk), CHUNK: (shared, 1)}
    heads: dict[str, OFTHeadConfig] = {"action tokens": DiscreteHeadConfig(), "L1 head": L1HeadConfig(width)}
    if diffusion_steps:
        heads[f"{diffusion_steps} diffusion steps"] = DiffusionHeadConfig(width, num_inference_steps=diffusion_steps)
    for name, head in heads.items():
        ways[f"all at once, {name}"] = (oft(plain, head, shared, dtype), 1)
    batches = {name: observation(plain, model.config.chunk_size, device, dtype) for name, (model, _) in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):  # in turn, so that whatever else the machine does is shared by all
        for name, (model, _) in ways.items():
            if number < 2 or "diffusion" not in name or device != "cpu":
                times[name].append(seconds_of(lambda model=model, name=name: model.predict(batches[name]), device))
    rows = []
    for name, (_, queries) in ways.items():
        seconds = queries * statistics.median(times[name][1:])
        rows.append({"name": name, "seconds_per_chunk": seconds, "actions_per_second": chunk / seconds})
    rates = {row["name"]: row["actions_per_second"] for row in rows}
    return {
        "rows": rows, "baseline": ONE, "measure": "actions_per_second", "larger_is_better": True,
        "L1 head against a chunk, one token after the other": rates["all at once, L1 head"] / rates[CHUNK],
        "size": size, "parameters": f"{sum(p.numel() for p in shared.parameters()) / 1e6:,.0f}M", "chunk": chunk,
        "device": device, "data type": str(dtype), "repeats": repeats,
    }  # fmt: skip


def oft(plain: OpenVLAConfig, head: OFTHeadConfig, shared: Any, dtype: torch.dtype) -> Any:
    """OFT with the parts of `shared`; only its head is new."""
    config = replace(
        OpenVLAOFT7BConfig(), pretrained=False, weights=None, lora=LoRAConfig(), vision_backbone=plain.vision_backbone,
        llm_backbone=plain.llm_backbone, arch_specifier=plain.arch_specifier, processor=plain.processor,
        num_actions=plain.num_actions, action_head=head,
    )  # fmt: skip
    model: Any = with_parts(get_model(config, device="meta"), shared)
    model.action_head.to_empty(device=next(shared.parameters()).device).to(dtype)
    with torch.no_grad():
        for parameter in model.action_head.parameters():
            parameter.normal_(std=0.02)
    return model


def with_parts(model: Any, shared: Any) -> Any:
    """`model` with the vision backbone, projector and language model of `shared`."""
    for name in ("vision_backbone", "projector", "llm_backbone"):
        setattr(model, name, getattr(shared, name))
    return model.eval()


def observation(config: OpenVLAConfig, chunk: int, device: str, dtype: torch.dtype) -> ActionBatch:
    """One prepared image and an instruction."""
    size = config.processor.image_size
    return ActionBatch(
        sample_ids=torch.zeros(1, dtype=torch.int64), instructions=[INSTRUCTION],
        images=torch.rand(1, 1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype),
        actions=torch.zeros(1, chunk, 7, device=device), rng_seeds=torch.zeros(1, dtype=torch.int64),
        action_mask=torch.ones(1, chunk, dtype=torch.bool, device=device),
    )  # fmt: skip


def seconds_of(function: Callable[[], Any], device: str) -> float:
    """Seconds of a call; a GPU's work is waited for."""
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
