"""Defects of a surface, painted on a faultless picture: where, how large and how strong is drawn anew each time."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vla.data.defects.textures import Array, Generator, blend, grid, smooth_noise, soft_step

Mask = NDArray[np.bool_]
Paint = Callable[[Array, Mask, Generator], Array]  # (picture, where it may be, generator) -> picture with the defect


def scratch(image: Array, foreground: Mask, generator: Generator) -> Array:
    """A thin bent line, lighter or darker than what it runs over."""
    size = len(image)
    y, x = grid(size)
    cy, cx = _place(foreground, generator)
    angle, length = generator.uniform(0, np.pi), np.exp(generator.uniform(np.log(0.25), np.log(0.9)))
    u = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
    v = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
    bend = generator.normal(0, 0.15) * u**2 + 0.01 * np.sin(u * generator.uniform(5, 12))
    width = generator.uniform(1.2, 3.0) / size * 2
    line = soft_step(np.abs(v - bend) - width, 2.0 / size) * soft_step(np.abs(u) - length / 2, 0.06)
    tone = generator.choice([0.05, 0.95])
    return blend(image, (tone, tone, tone), line * foreground * generator.uniform(0.3, 0.8))


def stain(image: Array, foreground: Mask, generator: Generator) -> Array:
    """A blot with a ragged edge that lets the surface show through."""
    color = np.asarray([(0.20, 0.12, 0.05), (0.10, 0.10, 0.12), (0.45, 0.33, 0.10)][generator.integers(3)])
    return blend(image, image * color * 1.6, _blob(image, foreground, generator, 0.10) * generator.uniform(0.35, 0.85))


def colour_shift(image: Array, foreground: Mask, generator: Generator) -> Array:
    """A patch of another hue or brightness, with a soft edge."""
    tint = 1 + generator.uniform(0.15, 0.45) * generator.choice([-1, 1], 3)
    return blend(image, (image * tint).clip(0, 1), _blob(image, foreground, generator, 0.14, softness=0.12))


def foreign_object(image: Array, foreground: Mask, generator: Generator) -> Array:
    """A crumb, shaded and with a shadow, or a hair."""
    size = len(image)
    if generator.random() < 0.4:
        return _hair(image, foreground, generator)
    y, x = grid(size)
    cy, cx = _place(foreground, generator)
    radius = np.exp(generator.uniform(np.log(0.04), np.log(0.13)))
    stretch, angle = generator.uniform(0.6, 1.0), generator.uniform(0, np.pi)
    u = (np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)) / radius
    v = (np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)) / radius / stretch
    distance = np.hypot(u, v) - 1 + 0.12 * smooth_noise(size, 10, generator)
    shadow = soft_step(np.hypot(x - cx - 0.3 * radius, y - cy - 0.4 * radius) / radius - 1, 0.7)
    shaded = image * (1 - 0.4 * shadow[..., None])
    light = (0.55 + 0.45 * np.clip(-(u + v) / 1.5, -1, 1))[..., None]
    color = np.asarray([(0.10, 0.45, 0.20), (0.85, 0.80, 0.20), (0.15, 0.15, 0.16), (0.85, 0.83, 0.80)])
    return blend(shaded, (color[generator.integers(4)] * light).clip(0, 1), soft_step(distance, 3.0 / size / radius))


def hole(image: Array, foreground: Mask, generator: Generator) -> Array:
    """A piece broken or cut out: dark, with a light torn edge."""
    inside = _blob(image, foreground, generator, 0.09, softness=0.02)
    rim = np.clip(4 * inside * (1 - inside), 0, 1)
    depth = 0.05 + 0.03 * smooth_noise(len(image), 30, generator)[..., None]
    torn = blend(image, np.broadcast_to(depth.clip(0, 1), image.shape), inside)
    return blend(torn, (0.9, 0.88, 0.84), 0.5 * rim)


BLEMISHES: dict[str, Paint] = {
    "scratch": scratch, "stain": stain, "colour-shift": colour_shift, "foreign-object": foreign_object, "hole": hole,
}  # fmt: skip


def _place(foreground: Mask, generator: Generator) -> tuple[float, float]:
    """y and x of a pixel of the foreground, on the scale of `grid`, not at the picture's very edge."""
    size = len(foreground)
    inner = np.zeros_like(foreground)
    margin = size // 10
    inner[margin:-margin, margin:-margin] = foreground[margin:-margin, margin:-margin]
    pixels = np.argwhere(inner)
    y, x = (pixels[generator.integers(len(pixels))] + 0.5) / size * 2 - 1
    return float(y), float(x)


def _blob(image: Array, foreground: Mask, generator: Generator, mean: float, softness: float = 0.05) -> Array:
    """Opacity of a ragged patch, about `mean` in radius (half of it to twice as much)."""
    size = len(image)
    y, x = grid(size)
    cy, cx = _place(foreground, generator)
    radius = mean * np.exp(generator.uniform(np.log(0.5), np.log(2.0)))
    ragged = smooth_noise(size, 4 / radius / 2, generator)
    distance = np.hypot(x - cx, (y - cy) * generator.uniform(0.8, 1.3)) - radius * (1 + 0.25 * ragged)
    near = np.hypot(x - cx, y - cy) < 3 * radius
    return soft_step(distance, softness) * near * foreground


def _hair(image: Array, foreground: Mask, generator: Generator) -> Array:
    size = len(image)
    y, x = grid(size)
    cy, cx = _place(foreground, generator)
    radius, start = generator.uniform(0.12, 0.4), generator.uniform(0, 2 * np.pi)
    distance = np.abs(np.hypot(x - cx, y - cy) - radius)
    angle = (np.arctan2(y - cy, x - cx) - start) % (2 * np.pi)
    line = soft_step(distance - 1.6 / size, 2.0 / size) * (angle < generator.uniform(1.0, 3.5))
    return blend(image, (0.07, 0.05, 0.04), 0.9 * line)
