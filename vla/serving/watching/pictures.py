"""The picture of an episode as a watcher saw it: its scores, the threshold, where the fault began, frames below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vla.evaluation.detection import Watched

NUM_FRAMES = 7
_INK, _ALARM, _MUTED = "#0072b2", "#c1272d", "#5c646d"


def choose_frames(count: int, onset: int | None) -> list[int]:
    """Numbers of at most `NUM_FRAMES` of `count` frames, evenly spaced; the first one with the fault is among them.

    Args:
        count: at least 1.
        onset: number of the first frame with the fault.
    """
    chosen = np.linspace(0, count - 1, min(NUM_FRAMES, count)).round().astype(int)
    if onset is not None and 0 < onset < count and onset not in chosen:
        nearest = int(np.abs(chosen[1:-1] - onset).argmin()) + 1 if len(chosen) > 2 else len(chosen) - 1
        chosen[nearest] = onset
    return sorted({int(number) for number in chosen})


def draw_scores(
    path: Path, title: str, watched: Watched, threshold: float, frames: Sequence[tuple[int, np.ndarray]]
) -> None:
    """Write a PNG.

    Args:
        path: of the picture.
        title: of the episode.
        watched: what the watcher made of it.
        threshold: above it is an alarm.
        frames: control step and uint8 [H, W, 3], upright; at least one.
    """
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, len(frames), height_ratios=(2.0, 1.2))
    axes = figure.add_subplot(grid[0, :])
    steps, scores = np.array(watched.steps), np.array(watched.scores)
    alarms = scores > threshold
    axes.plot(steps, scores, color=_INK, linewidth=1.6, marker="o", markersize=3, label="score")
    axes.plot(steps[alarms], scores[alarms], "o", color=_ALARM, markersize=5, label="alarm")
    axes.axhline(threshold, color=_ALARM, linewidth=1.2, linestyle="--", label="threshold")
    if watched.onset is not None:
        axes.axvline(watched.onset, color=_MUTED, linewidth=1.2, linestyle=":", label="fault begins")
    axes.legend(frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.0, fontsize=9)
    axes.set_xlabel("control step")
    axes.set_ylabel("anomaly score")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    for column, (step, frame) in enumerate(frames):
        cell = figure.add_subplot(grid[1, column])
        cell.imshow(frame)
        cell.set_xticks([])
        cell.set_yticks([])
        faulty = watched.onset is not None and step >= watched.onset
        for side in cell.spines.values():
            side.set_color(_ALARM if faulty else _MUTED)
            side.set_linewidth(2.0 if faulty else 0.8)
        cell.set_xlabel(f"step {step}", fontsize=8, color=_ALARM if faulty else _MUTED)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
