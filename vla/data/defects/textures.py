"""Procedural textures: smooth noise and what is made of it. Arrays are float64, colours in [0, 1]."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Generator = np.random.Generator


def smooth_noise(size: int, cells: float | tuple[float, float], generator: Generator) -> Array:
    """[size, size] of mean about 0 and deviation about 1, in bumps of size / cells (rows, columns) pixels."""
    rows, columns = (cells, cells) if isinstance(cells, int | float) else cells
    shape = (max(2, round(rows)) + 3, max(2, round(columns)) + 3)
    coarse = Image.fromarray(generator.normal(size=shape).astype(np.float32))
    wide = (round(size * shape[1] / (shape[1] - 3)), round(size * shape[0] / (shape[0] - 3)))
    fine = np.asarray(coarse.resize(wide, Image.Resampling.BICUBIC), dtype=np.float64)
    top, left = (fine.shape[0] - size) // 2, (fine.shape[1] - size) // 2
    part = fine[top : top + size, left : left + size]
    return (part - part.mean()) / max(float(part.std()), 1e-6)


def fractal_noise(size: int, cells: Sequence[float | tuple[float, float]], generator: Generator) -> Array:
    """Sum of smooth noises, each half as strong as the one before; deviation about 1."""
    parts = [smooth_noise(size, number, generator) * 0.5**octave for octave, number in enumerate(cells)]
    total: Array = np.sum(parts, axis=0)
    return total / np.sqrt(sum(0.25**octave for octave in range(len(cells))))


def grid(size: int) -> tuple[Array, Array]:
    """Coordinates y, x [size, size] from -1 to 1, of the pixels' centres."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    return np.meshgrid(line, line, indexing="ij")


def blend(below: Array, above: Array | Sequence[float], alpha: Array) -> Array:
    """Pictures [S, S, 3] (or one colour) on top of each other, `above` as opaque as alpha [S, S] says."""
    opacity = alpha[..., None]
    return below * (1 - opacity) + np.asarray(above) * opacity


def soft_step(distance: Array, width: float) -> Array:
    """From 1 where `distance` is negative to 0 where it is positive, over `width`."""
    return np.clip(0.5 - distance / width, 0.0, 1.0)


def colored(values: Array, low: Sequence[float], high: Sequence[float]) -> Array:
    """[S, S] from 0 to 1 as colours between two, [S, S, 3]."""
    return np.asarray(low) + values.clip(0, 1)[..., None] * (np.asarray(high) - np.asarray(low))
