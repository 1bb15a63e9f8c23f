"""Draws the pictures of docs/concepts into docs/assets, with the functions that training itself uses.

    python scripts/docs/plots.py                  # all of them
    python scripts/docs/plots.py --output DIR

The same versions of the libraries draw the same bytes.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from vla.conf.models import ModelRegistry
from vla.conf.pretrain import EvaluationConfig
from vla.conf.stage import ScheduleConfig, Stage
from vla.conf.vqa_datasets import PackingConfig
from vla.data.packing.best_fit import BestFitPacker
from vla.data.packing.packer import Packer, pack_all
from vla.data.packing.published import PublishedPacker
from vla.data.packing.reference_sizes import MAX_IMAGES, SEQ_LENGTH, nanovlm_sizes
from vla.data.samplers import IMAGE_TOKENS, DistributedSampler, ResumableSampler, SplitModalitySampler
from vla.overwatch.distributed import DistState
from vla.training.early_stopping import BestMetric
from vla.training.intervals import Interval
from vla.training.optim import lr_scale
from vla.training.schedules import get_schedule
from vla.training.state import TrainerState
from vla.training.window import weigh_window

ROOT = Path(__file__).resolve().parents[2]
BLUE, ORANGE, GREEN, RED, GREY, PALE = "#2a6fbb", "#e07b39", "#3a9a5b", "#c0392b", "#777777", "#e8e8e8"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "vla", "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left", "legend.frameon": False,
    "figure.facecolor": "white", "lines.linewidth": 1.8,
}  # fmt: skip
SCHEDULES = {
    "cosine": {}, "cosine, min_lr_ratio 0.1": {"min_lr_ratio": 0.1}, "linear": {}, "constant": {},
    "step, step_size 250, gamma 0.5": {"step_size": 250, "gamma": 0.5},
}  # fmt: skip


def schedules() -> Figure:
    """Factors of the learning rate over a run of 1,000 steps, and the three warm-up rules from near."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    whole, near = figure.subplots(1, 2, width_ratios=(3, 2))
    steps = range(1000)
    for title, options in SCHEDULES.items():
        config = ScheduleConfig(name=title.split(",")[0], warmup_steps=100, **options)
        schedule = get_schedule(config, len(steps))
        whole.plot(steps, [schedule(step) for step in steps], label=title)
    whole.set(title="schedule.name, after 100 steps of warm-up", xlabel="optimizer step", ylabel="x learning_rate")
    whole.legend(fontsize=8.5, loc="lower left", bbox_to_anchor=(0.16, 0.0))
    first = range(10)
    for rule, colour, style in (("step", BLUE, "o-"), ("next_step", ORANGE, "s--"), ("from_zero", GREEN, "^:")):
        ratio = 0.0 if rule == "from_zero" else 0.0055
        schedule = get_schedule(ScheduleConfig(name="constant", warmup_ratio=ratio, warmup_rule=rule), 1000)
        label = f"{rule}, {1000 * ratio:g} steps"
        near.plot(first, [schedule(step) for step in first], style, color=colour, label=label, markersize=5)
    near.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    near.set(title="warmup_rule, the first 10 steps", xlabel="optimizer step")
    near.legend(fontsize=8.5, loc="lower right")
    return figure


def accumulation() -> Figure:
    """A global batch of 16 samples, cut in four ways; and what a token counts in micro-batches of unequal length."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    cut, weights = figure.subplots(1, 2, width_ratios=(3, 2))
    labels = []
    for row, (world_size, size) in enumerate(((1, 16), (1, 4), (2, 4), (4, 2))):
        column = 0
        for rank in range(world_size):
            sampler = DistributedSampler(64, global_batch_size=16, rank=rank, world_size=world_size)
            samples = [*islice(sampler, 16 // world_size)]
            for start in range(0, len(samples), size):
                _box(cut, column, row, samples[start : start + size], (BLUE, ORANGE, GREEN, RED)[rank])
                column += size
        labels.append(f"{world_size} process{'es' * (world_size > 1)}\n{16 // world_size // size} x {size} samples")
    cut.set(xlim=(-0.2, 16.2), ylim=(3.75, -0.75), xticks=[], title="one optimizer step, global_batch_size 16")
    cut.set_yticks(range(4), labels)
    cut.spines[["left", "bottom"]].set_visible(False)
    cut.tick_params(length=0)

    tokens = [900, 120, 300, 60]
    task: Any = SimpleNamespace(weigh=lambda batch: torch.tensor(float(batch)))
    for offset, reduction, colour in ((-0.2, "global", BLUE), (0.2, "microbatch", ORANGE)):
        window: Any = weigh_window(task, list(tokens), reduction, False, DistState())  # type: ignore[arg-type]
        per_token = [share / window.total * sum(tokens) for share in window.shares]
        weights.bar(np.arange(4) + offset, per_token, 0.38, color=colour, label=f"loss_reduction: {reduction}")
    weights.set(title="weight of a token in the gradient", ylabel="x that of the mean over all tokens")
    weights.set_xticks(range(4), [f"{count}\ntokens" for count in tokens])
    weights.set_xlabel("micro-batches of one step")
    weights.legend(fontsize=8.5)
    return figure


def _box(axes: Axes, left: float, row: float, samples: list[int], colour: str) -> None:
    """A micro-batch, with the numbers of its samples."""
    box = matplotlib.patches.FancyBboxPatch(
        (left + 0.12, row - 0.28), len(samples) - 0.24, 0.56, boxstyle="round,pad=0.02", facecolor=colour, alpha=0.25,
        edgecolor=colour,
    )  # fmt: skip
    axes.add_patch(box)
    for place, sample in enumerate(samples):
        axes.text(left + place + 0.5, row, str(int(sample)), ha="center", va="center", fontsize=9)


def scaling() -> Figure:
    """The factor of the learning rate for a number of processes."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    numbers = [1, 2, 4, 8, 16, 32, 64]
    for rule, colour in (("linear", ORANGE), ("sqrt", BLUE), ("none", GREY)):
        axes.plot(numbers, [lr_scale(rule, number) for number in numbers], "o-", color=colour, label=rule, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_yticks(numbers, [str(number) for number in numbers])
    axes.set(title="lr_scaling", xlabel="processes", ylabel="x learning_rate")
    axes.legend()
    return figure


def intervals() -> Figure:
    """When evaluations are due, and what early stopping sees of a curve that was made up."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(2, 3), sharex=True)
    settings = {
        "every_epochs: 1": Interval(epochs=1), "every_steps: 150": Interval(steps=150),
        "both": Interval(steps=150, epochs=1),
    }  # fmt: skip
    state = TrainerState(total_steps=1000, steps_per_epoch=240)
    due: dict[str, list[int]] = {name: [] for name in settings}
    while not state.finished:
        state.advance()
        for name, interval in settings.items():
            if interval.due(state):
                due[name].append(state.global_step)
    for row, steps in enumerate(due.values()):
        above.plot(steps, [row] * len(steps), "|", markersize=16, markeredgewidth=2.5, color=(BLUE, ORANGE, GREEN)[row])
    for epoch in range(1, 5):
        above.axvline(240 * epoch, color=PALE, zorder=0)
    above.set_yticks(range(3), list(due))
    above.set(ylim=(2.6, -0.6), title="evaluations of a run of 1,000 steps, an epoch is 240 (grey lines)")

    steps = np.arange(1, 1001)
    noise = np.random.default_rng(3).normal(0, 0.02, len(steps))
    curve = 1.0 * np.exp(-steps / 180) + 0.35 + 0.00025 * np.maximum(0, steps - 500) + noise
    below.plot(steps, curve, color=PALE, linewidth=1, zorder=0)
    for every, colour in ((25, ORANGE), (100, BLUE)):
        best = BestMetric(EvaluationConfig(patience=3))
        seen = []
        for step in range(every, 1001, every):
            best.update({"eval/loss": float(curve[step - 1])}, step)
            seen.append(step)
            if best.should_stop:
                break
        label = f"every {every} steps, patience 3: stops at {seen[-1]}, best at {best.step}"
        below.plot(seen, curve[np.array(seen) - 1], "o-", color=colour, markersize=4, linewidth=1.2, label=label)
        below.plot([best.step], [best.value], "*", color=colour, markersize=15, markeredgecolor="black", zorder=5)
    below.set(title="early stopping on a made-up evaluation loss", xlabel="optimizer step", ylabel="eval/loss")
    below.legend(fontsize=9)
    return figure


def split_modality() -> Figure:
    """Batches at random and batches of one kind: what is computed for padding."""
    generator = np.random.default_rng(0)
    count, micro = 512, 8
    multimodal = generator.random(count) < 0.6
    lengths = np.where(multimodal, generator.lognormal(4.4, 0.6, count), generator.lognormal(5.6, 0.7, count))
    text = np.clip(lengths, 16, 1400).astype(int)
    table = np.stack([multimodal, text], axis=1)
    samplers: dict[str, ResumableSampler] = {
        "DistributedSampler": DistributedSampler(count, global_batch_size=32, seed=7),
        "SplitModalitySampler": SplitModalitySampler(table, global_batch_size=32, seed=7),
    }
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    for axes, (name, sampler) in zip(figure.subplots(1, 2, sharex=True), samplers.items(), strict=True):
        order = np.array([*sampler])
        total = text[order] + IMAGE_TOKENS * multimodal[order]
        longest = total.reshape(-1, micro).max(axis=1).repeat(micro)
        shown = np.full((96, 2000), 0)
        for row in range(len(shown)):
            pictures = IMAGE_TOKENS * int(multimodal[order[row]])
            shown[row, : longest[row]] = 1
            shown[row, : total[row]] = 3
            shown[row, :pictures] = 2
        axes.imshow(shown, aspect="auto", cmap=ListedColormap(["white", "#cfcfcf", ORANGE, BLUE]), interpolation="none")
        padding = 1 - total.sum() / longest.sum()
        axes.set(title=f"{name}: {padding:.0%} padding", xlabel="tokens", ylim=(95.5, -0.5), yticks=range(0, 97, 8))
    figure.axes[0].set_ylabel("samples in order, 8 to a micro-batch")
    patches = [matplotlib.patches.Patch(color=colour) for colour in (ORANGE, BLUE, "#cfcfcf")]
    figure.legend(patches, ["picture", "text", "padding"], loc="outside lower center", ncols=3)
    return figure


def packing() -> Figure:
    """The first sequences of three ways to pack the same samples."""
    sizes, settings = nanovlm_sizes(2000), PackingConfig()
    length = {size.key: size.length for size in sizes}
    packers: dict[str, Callable[[], Packer] | None] = {
        "none": None,
        "published": lambda: PublishedPacker(SEQ_LENGTH, MAX_IMAGES, settings.num_sequences),
        "best-fit": lambda: BestFitPacker(SEQ_LENGTH, MAX_IMAGES, settings.buffer_size),
    }
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, (name, make) in zip(figure.subplots(1, 3, sharex=True, sharey=True), packers.items(), strict=True):
        packs = [[size.key] for size in sizes] if make is None else [*pack_all(make(), sizes)]
        _draw_packs(axes, packs[:24], length)
        fill = sum(size.length for size in sizes) / (len(packs) * SEQ_LENGTH)
        axes.set(title=f"{name}: {fill:.1%} full", xlabel="tokens", xlim=(0, SEQ_LENGTH), xticks=[0, 2048, 4096])
        axes.set_facecolor(PALE)
    figure.axes[0].set(ylabel="sequences of 4,096 tokens", yticks=[], ylim=(23.5, -0.5))
    return figure


def _draw_packs(axes: Axes, packs: list[list[int]], length: dict[int, int]) -> None:
    """A row for each pack, a bar for each of its samples."""
    for row, pack in enumerate(packs):
        left = 0
        for key in pack:
            axes.barh(row, length[key], 0.86, left=left, color=matplotlib.colormaps["tab20"](key % 20), linewidth=0)
            left += length[key]


def stages() -> Figure:
    """Which module groups train in which stage."""
    names = {
        "AtlasVLA": "vggt-llama-7b", "Prismatic": "prism-dinosiglip+7b", "OpenVLA-OFT": "openvla-oft-7b",
        "nanoVLM": "nanovlm-460m", "UniAD": "uniad-efficientnet-b4",
    }  # fmt: skip
    configs = {member.model_id: member.value for member in ModelRegistry}
    figure = Figure(figsize=(10, 3.0), layout="constrained")
    for axes, (system, name) in zip(figure.subplots(1, len(names)), names.items(), strict=True):
        config = configs[name]()
        groups = list(config.module_groups)
        for column, stage in enumerate(Stage):
            trained = config.stage(stage).trained_groups
            for row, group in enumerate(groups):
                colour = ORANGE if group in trained else PALE
                axes.add_patch(matplotlib.patches.Rectangle((column + 0.05, row + 0.08), 0.9, 0.84, facecolor=colour))
        axes.set(title=system, xlim=(0, 3), ylim=(len(groups), 0))
        axes.set_xticks([0.5, 1.5, 2.5], [stage.value for stage in Stage], rotation=35, ha="right", fontsize=8.5)
        axes.set_yticks(np.arange(len(groups)) + 0.5, groups, fontsize=8.5)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
    patches = [matplotlib.patches.Patch(color=colour) for colour in (ORANGE, PALE)]
    figure.legend(patches, ["trains", "frozen"], loc="outside lower right", ncols=2)
    return figure


PLOTS: dict[str, Callable[[], Figure]] = {
    function.__name__.replace("_", "-"): function
    for function in (schedules, accumulation, scaling, intervals, split_modality, packing, stages)
}


def main() -> int:
    """Draw all pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "assets", help="folder (default: docs/assets)")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, function in PLOTS.items():
            function().savefig(output / f"{name}.svg", metadata={"Date": None, "Creator": None})
            print(output / f"{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
