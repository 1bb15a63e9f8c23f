"""The picture of a learning-rate range test."""

import math
from pathlib import Path

from matplotlib.figure import Figure


def plot_range_test(rates: list[float], losses: list[float], suggestion: float | None, path: Path) -> None:
    """Draw the smoothed loss against the learning rate (logarithmic) into a PNG at `path`.

    Losses beyond twice the first one, where training explodes, are cut off.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(rates, losses, color="#0072b2", linewidth=1.6)
    if suggestion is not None:
        axes.axvline(suggestion, color="#d55e00", linewidth=1.2, label=f"falls most steeply: {suggestion:.1e}")
        axes.legend(frameon=False)
    finite = [loss for loss in losses if math.isfinite(loss)]
    if finite:
        axes.set_ylim(top=min(max(finite), 2 * finite[0]) * 1.05)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss (smoothed)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
