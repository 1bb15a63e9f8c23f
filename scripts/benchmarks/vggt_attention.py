"""VGGT forward with PyTorch's fused attention, against a plain implementation that writes out the softmax matrix.

Frames of 224 x 224 through a mid-size model with random weights: `full` is everything with camera, depth and point
heads, `trunk` the tokens alone, which is what a policy asks for. The plain variant is the same model with the attention
function exchanged for softmax(q k^T / sqrt(d)) v. Each variant runs in a process of its own, so that the peak memory
(`ru_maxrss`) is its own; `forward_mib` is what a forward pass adds to the peak that the model alone has. The matrix of
attention weights grows with the square of the tokens: at two frames it is a small part of a full pass.

    python scripts/bench.py vggt-attention
"""

import json
import sys
import time
from contextlib import nullcontext
from typing import Any

import torch
from _attention import plain_attention
from _own_process import in_own_process, peak_mib

from vla.models.vggt import VGGT, VGGTSpec

VARIANTS = ("plain softmax", "fused")


def get_spec() -> VGGTSpec:
    """Mid-size: 384 wide, 12 block pairs, a 12-block DINOv2."""
    return VGGTSpec(
        img_size=224, embed_dim=384, depth=12, num_heads=6, patch_embed="dinov2_vits14_reg", enable_track=False,
        camera_num_heads=6, dpt_features=96, dpt_out_channels=(96, 192, 384, 384), dpt_layers=(2, 5, 8, 11),
    )  # fmt: skip


SCENES = (("full", 2), ("trunk", 2), ("trunk", 8))  # part of the model, frames


def run(
    scenes: tuple[tuple[str, int], ...] = SCENES, image_size: int = 224, repeats: int = 3, rounds: int = 2
) -> dict[str, Any]:
    """Time both variants in turns, `rounds` processes each; the best of all forward passes counts.

    Args:
        scenes: What to run: `full` or `trunk`, and the number of frames.
        image_size: Side in pixels, a multiple of 14.
        repeats: Forward passes per process.
        rounds: Processes per variant.
    """
    rows = []
    for part, frames in scenes:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
        for _ in range(rounds):
            for name in VARIANTS:
                found[name].append(in_own_process(__file__, name, part, frames, image_size, repeats))
        best = {name: {key: min(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}
        plain = best[VARIANTS[0]]
        rows += [
            {
                "name": name,
                "part": part,
                "frames": frames,
                "tokens": frames * ((image_size // 14) ** 2 + 5),
                **values,
                "time_ratio": plain["forward_s"] / values["forward_s"],
                "memory_ratio": plain["forward_mib"] / values["forward_mib"],
            }
            for name, values in best.items()
        ]
    return {"rows": rows, "image_size": image_size}


@torch.inference_mode()
def _measure(name: str, part: str, frames: int, image_size: int, repeats: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = VGGT(get_spec()).eval()
    images = torch.rand(1, frames, 3, image_size, image_size)
    before, times = peak_mib(), []
    for _ in range(repeats):
        start = time.perf_counter()
        with nullcontext() if name == "fused" else plain_attention():
            if part == "full":
                result = model(images)["depth"]
            else:
                result = model.encode(images, layers=(-1,))[0][model.spec.depth - 1]
        times.append(time.perf_counter() - start)
    return {
        "forward_s": min(times),
        "peak_mib": peak_mib(),
        "forward_mib": peak_mib() - before,
        "checksum": result.double().abs().mean().item(),
    }


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))))
