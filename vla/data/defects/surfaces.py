"""Surfaces without a shape: wood, woven fabric, terrazzo. Each picture is another piece of the same material."""

import numpy as np

from vla.data.defects.drawing import Change, Drawing
from vla.data.defects.textures import (
    Array,
    Generator,
    blend,
    colored,
    fractal_noise,
    grid,
    smooth_noise,
    soft_step,
)

_STONES = ((0.86, 0.84, 0.80), (0.45, 0.40, 0.38), (0.70, 0.52, 0.42), (0.30, 0.34, 0.38), (0.93, 0.91, 0.88))


def draw_wood(look: Generator, size: int, change: Change | None) -> Drawing:
    """Boards with grain along the columns."""
    y, x = grid(size)
    warp = smooth_noise(size, (3, 6), look)
    rings = 0.5 + 0.5 * np.sin((x + 0.06 * warp) * look.uniform(26, 32) + look.uniform(0, 2 * np.pi))
    fibres = fractal_noise(size, [(4, 60), (8, 120)], look)
    values = 0.45 + 0.28 * (rings - 0.5) + 0.09 * fibres + 0.05 * smooth_noise(size, 3, look)
    image = colored(values * look.uniform(0.95, 1.05), (0.36, 0.20, 0.10), (0.83, 0.62, 0.38))
    return Drawing(image, np.ones((size, size), dtype=bool))


def draw_fabric(look: Generator, size: int, change: Change | None) -> Drawing:
    """Plain weave: threads over and under each other."""
    y, x = grid(size)
    angle, count = look.normal(0, 0.03), look.uniform(23, 25)
    u = (np.cos(angle) * x + np.sin(angle) * y + 0.006 * smooth_noise(size, 6, look)) * count
    v = (np.cos(angle) * y - np.sin(angle) * x + 0.006 * smooth_noise(size, 6, look)) * count
    u, v = u + look.uniform(0, 2), v + look.uniform(0, 2)
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    across = np.where(over, np.sin(np.pi * (u % 1)), np.sin(np.pi * (v % 1)))
    along = np.where(over, np.sin(np.pi * (v % 1)), np.sin(np.pi * (u % 1)))
    values = (0.25 + 0.75 * across**0.6) * (0.7 + 0.3 * along) + 0.04 * smooth_noise(size, 70, look)
    warm = np.where(over, 1.0, 0.86)
    image = colored(values * warm * look.uniform(0.95, 1.05), (0.10, 0.13, 0.17), (0.55, 0.62, 0.70))
    return Drawing(image, np.ones((size, size), dtype=bool))


def draw_terrazzo(look: Generator, size: int, change: Change | None) -> Drawing:
    """Chips of stone in light cement."""
    image = colored(0.5 + 0.1 * fractal_noise(size, [20, 60], look), (0.62, 0.61, 0.58), (0.84, 0.83, 0.80))
    for _ in range(110):
        window, opacity = _chip(look, size)
        image[window] = blend(image[window], _STONES[look.integers(len(_STONES))], opacity)
    image *= 1 + 0.02 * smooth_noise(size, 90, look)[..., None]
    return Drawing(image * look.uniform(0.96, 1.04), np.ones((size, size), dtype=bool))


def _chip(look: Generator, size: int) -> tuple[tuple[slice, slice], Array]:
    """Window and opacity of an angular chip somewhere."""
    center, radius = look.uniform(-1.05, 1.05, 2), look.uniform(0.03, 0.10)
    reach = 1.7 * radius  # few sides leave a chip open: it ends there
    ends = np.clip(np.round((np.stack([center - reach, center + reach]) + 1) / 2 * size), 0, size).astype(int)
    window = slice(ends[0, 0], ends[1, 0]), slice(ends[0, 1], ends[1, 1])
    y, x = (part[window] - middle for part, middle in zip(grid(size), center, strict=True))
    inside = np.hypot(x, y) - 1.6 * radius
    for angle in look.uniform(0, 2 * np.pi, look.integers(4, 7)):
        inside = np.maximum(inside, x * np.cos(angle) + y * np.sin(angle) - radius * look.uniform(0.7, 1.0))
    return window, soft_step(inside, 3.0 / size)
