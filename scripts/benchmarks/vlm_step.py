"""Training steps of a vision-language model at published shapes, weights at random: tokens a second, and MFU.

    python scripts/bench.py vlm-step --device cuda                 # 7B: DINOv2, SigLIP and Llama-2, on a GPU
    python scripts/bench.py vlm-step --device cuda --layers 12     # the language model cut to 12 layers, to fit
    python scripts/bench.py vlm-step --size tiny

A step is what the stages do on one device: forward pass under bf16 autocast, backward pass, gradient clipping, AdamW.
Every sample has an image, which the frozen vision backbone sees anew in every step, and text to the full length, the
second half of which is learned. `flops` are counted as for a run's MFU (`vla.training.flops`). MFU is their rate over
the device's published peak for dense bf16; `of_matmul` is it over the rate of one product of two 8,192 x 8,192 matrices
(1,024 on a CPU), measured here. A combination that the memory can't hold says so.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from vla.batches import IGNORE_INDEX, LanguageBatch
from vla.conf.models import ModelConfig, PrismaticConfig
from vla.conf.stage import Stage, StageConfig
from vla.models.base import BaseModel
from vla.models.freezing import apply_stage
from vla.models.materialize import get_model
from vla.training.compilation import compile_blocks
from vla.training.flops import peak_flops, training_flops
from vla.training.optim import get_optimizer, parameter_owners
from vla.training.precision import autocast_context

SIZES = {"tiny": "prism-dinosiglip-tiny", "7b": "prism-dinosiglip-224px+7b"}
STAGES = (Stage.ALIGN, Stage.FINETUNE)


def run(
    size: str = "7b", device: str = "cpu", batch: int | None = None, text: int | None = None, layers: int | None = None,
    steps: int = 5, compiled: bool | None = None, peak: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure both stages, with activations kept and recomputed, as they are and compiled.

    Args:
        size: tiny | 7b.
        device: cpu | cuda.
        batch: samples at once; None: 8 (2 for tiny).
        text: tokens of text a sample; None: 512 (24 for tiny).
        layers: of the language model; None: all.
        steps: timed, after two that are not.
        compiled: measure torch.compile of the blocks, too; None: on CUDA.
        peak: FLOP/s of the device; None: known for some GPUs.
    """
    tiny = size == "tiny"
    config, batch, text = with_layers(SIZES[size], layers), batch or (2 if tiny else 8), text or (24 if tiny else 512)
    on_gpu = device.startswith("cuda")
    name = torch.cuda.get_device_name(device) if on_gpu else ""
    peak = peak or peak_flops(name)
    reachable, rows = matmul_rate(8192 if on_gpu else 1024, device), []
    for stage in STAGES:
        flops = count_flops(config, stage, example(config, batch, text))
        for is_compiled in (False, True) if (on_gpu if compiled is None else compiled) else (False,):
            for recomputed in (False, True):
                row = {"name": stage.value, "activations": "recomputed" if recomputed else "kept"}
                row |= {"compiled": is_compiled, "flops": float(flops)}
                row |= measure(config, stage, example(config, batch, text), device, steps, recomputed, is_compiled)
                if "step_s" in row:
                    rate = flops / row["step_s"]
                    row |= {"mfu": rate / peak} if peak else {}
                    row |= {"of_matmul": rate / reachable}
                rows.append(row)
    llm = config.llm_backbone.num_layers
    return {
        "rows": rows,
        "size": size,
        "layers": llm,
        "batch": batch,
        "text": text,
        "matmul": reachable,
        "steps": steps,
    }


def with_layers(model_id: str, layers: int | None) -> PrismaticConfig:
    """A registered model at random."""
    config = replace(ModelConfig.get_choice_class(model_id)(), pretrained=False)
    assert isinstance(config, PrismaticConfig)
    llm = config.llm_backbone
    return replace(config, llm_backbone=replace(llm, num_layers=layers or llm.num_layers, tokenizer="bytes"))


def example(config: PrismaticConfig, size: int, length: int) -> LanguageBatch:
    """Random images and text; the second half of the text is learned."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 250, (size, length), generator=generator)
    transforms = config.vision_backbone.transforms
    return LanguageBatch(
        sample_ids=torch.arange(size), input_ids=ids, attention_mask=torch.ones_like(ids, dtype=torch.bool),
        labels=torch.where(torch.arange(length) >= length // 2, ids, IGNORE_INDEX),
        pixel_values={
            tower: torch.randn(size, 3, transform.size, transform.size, generator=generator)
            for tower, transform in transforms.items()
        },
        is_multimodal=torch.ones(size, dtype=torch.bool),
    )  # fmt: skip


def staged(config: PrismaticConfig, stage: Stage, device: str) -> tuple[BaseModel, StageConfig]:
    """A model of which what the stage trains does."""
    model = get_model(config, device=device)
    apply_stage(model, config.stage(stage))
    return model.train(), config.stage(stage)


def count_flops(config: PrismaticConfig, stage: Stage, batch: LanguageBatch) -> int:
    """Of forward and backward pass, without computing anything."""
    model, _ = staged(config, stage, "meta")
    return training_flops(model, batch)[0]


def measure(
    config: PrismaticConfig, stage: Stage, batch: LanguageBatch, device: str, steps: int, recomputed: bool,
    compiled: bool,
) -> dict[str, Any]:  # fmt: skip
    """Seconds of a step, tokens a second and memory; or that the memory was not enough."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        model, values = staged(config, stage, "cpu")
        model.set_gradient_checkpointing(recomputed)
        if compiled:
            compile_blocks(model)
        model.to(device)
        optimizer = get_optimizer(model, values, parameter_owners(model))
        step = one_step(model, optimizer, batch.to(device), values, device)
        for _ in range(2):
            step()
        seconds = timed(step, steps, device)
    except torch.OutOfMemoryError:
        return {"note": "more memory than there is"}
    patches = config.vision_backbone.num_patches * len(batch)
    found = {"step_s": seconds, "tokens_per_s": (patches + batch.input_ids.numel()) / seconds}
    return found | ({"GiB": torch.cuda.max_memory_allocated() / 2**30} if on_gpu else {})


def one_step(model: Any, optimizer: Any, batch: LanguageBatch, stage: StageConfig, device: str) -> Callable[[], None]:
    """What a call of it does is a step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step() -> None:
        with autocast_context("bf16", device):
            loss = model(batch).token_loss.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, stage.max_grad_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def matmul_rate(size: int, device: str) -> float:
    """FLOP/s of a product of two square matrices in bf16."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    left @ right
    return 2 * size**3 / timed(lambda: left @ right, 10, device)


def timed(function: Callable[[], Any], repeats: int, device: str) -> float:
    """Seconds of a call, on average; a GPU's work is waited for."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    wait()
    return (time.perf_counter() - start) / repeats
