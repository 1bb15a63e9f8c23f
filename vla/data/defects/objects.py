"""Objects: a metal plate with holes, a capsule, blocks on a table. Their places vary a little from one to the next."""

import numpy as np

from vla.data.blocks.ray_tracer import render
from vla.data.blocks.scene import Block, Scene
from vla.data.defects.drawing import Change, Drawing
from vla.data.defects.textures import (
    Generator,
    blend,
    colored,
    fractal_noise,
    grid,
    smooth_noise,
    soft_step,
)

_HOLES = 6
_SHOWN = ("cube", "red", -1.6), ("ball", "blue", 0.0), ("cylinder", "yellow", 1.6)


def draw_plate(look: Generator, size: int, change: Change | None) -> Drawing:
    """A brushed disc with six holes around a larger one. Changes: missing-part, misplaced (a hole)."""
    y, x = grid(size)
    cx, cy, turn = look.normal(0, 0.03), look.normal(0, 0.03), look.uniform(-0.25, 0.25)
    x, y = x - cx, y - cy
    edge, radius, angle = 4.0 / size, np.hypot(x, y), np.arctan2(y, x)
    image = colored(0.4 + 0.12 * fractal_noise(size, [6, 24], look), (0.05, 0.06, 0.08), (0.22, 0.23, 0.26))
    brushed = smooth_noise(size, (90, 8), look)
    shine = 0.62 + 0.16 * np.cos(2 * (angle - look.uniform(-0.2, 0.2))) + 0.035 * brushed
    disc = soft_step(radius - 0.82, edge)
    rim = np.exp(-(((radius - 0.79) / 0.02) ** 2))
    image = blend(image, colored(shine + 0.15 * rim, (0.20, 0.21, 0.22), (0.95, 0.95, 0.93)), disc)
    places = turn + np.arange(_HOLES) * 2 * np.pi / _HOLES
    rings, kept = np.full(_HOLES, 0.54), np.ones(_HOLES, dtype=bool)
    if change is not None:
        number = change.generator.integers(_HOLES)
        if change.kind == "missing-part":
            kept[number] = False
        else:
            places[number] += change.generator.choice([-1, 1]) * change.generator.uniform(0.12, 0.4)
            rings[number] += change.generator.uniform(-0.06, 0.06)
    small = np.stack([rings * np.cos(places), rings * np.sin(places), np.full(_HOLES, 0.085)], axis=1)[kept]
    for hx, hy, width in [(0.0, 0.0, 0.17), *small]:
        distance = np.hypot(x - hx, y - hy) - width
        image = blend(image, (0.9, 0.9, 0.88), 0.5 * np.exp(-((distance / 0.015) ** 2)))
        image = blend(image, (0.04, 0.04, 0.05), soft_step(distance, edge))
    return Drawing(image, radius < 0.80)


def draw_capsule(look: Generator, size: int, change: Change | None) -> Drawing:
    """Two halves of a capsule with a band. Changes: missing-part (an end is dented), misplaced (the band is off)."""
    y, x = grid(size)
    tilt = look.uniform(-0.12, 0.12)
    x, y = x - look.normal(0, 0.03), y - look.normal(0, 0.03)
    u, v = np.cos(tilt) * x + np.sin(tilt) * y, np.cos(tilt) * y - np.sin(tilt) * x
    half, radius, edge = 0.46, 0.30, 4.0 / size
    along = np.hypot(np.clip(np.abs(u) - half, 0, None), v) - radius
    backdrop = colored(0.5 + 0.08 * fractal_noise(size, [8, 40], look), (0.76, 0.77, 0.80), (0.92, 0.93, 0.95))
    shadow = soft_step(np.hypot(np.clip(np.abs(u - 0.03) - half, 0, None), v - 0.09) - radius, 0.3)
    image = backdrop * (1 - 0.35 * shadow[..., None])
    seam = look.normal(0.0, 0.01)
    if change is not None and change.kind == "misplaced":
        seam += change.generator.choice([-1, 1]) * change.generator.uniform(0.05, 0.22)
    if change is not None and change.kind == "missing-part":
        side, place = change.generator.choice([-1, 1]), change.generator.uniform(-0.25, 0.25)
        reach = change.generator.uniform(0.10, 0.22)
        along = np.maximum(along, reach - np.hypot(u - side * (half + radius), v - place))
    height = np.sqrt(np.clip(1 - (v / radius) ** 2, 0, None))
    light = 0.45 + 0.55 * height + 0.3 * np.exp(-((((v + 0.11) / 0.035) ** 2) + (u / 0.6) ** 6))
    body = np.where((u < seam)[..., None], (0.78, 0.16, 0.14), (0.93, 0.88, 0.72)) * light[..., None]
    body = blend(body, (0.30, 0.28, 0.27), 0.8 * np.exp(-(((u - seam) / 0.02) ** 2)))
    body *= 1 + 0.015 * smooth_noise(size, 60, look)[..., None]
    return Drawing(blend(image, body.clip(0, 1), soft_step(along, edge)), along < -2 * edge)


def draw_blocks(look: Generator, size: int, change: Change | None) -> Drawing:
    """A cube, a ball and a cylinder in a row. Changes: missing-part, misplaced, colour-shift, foreign-object."""
    places = [(x + look.normal(0, 0.05), look.normal(0, 0.05), look.uniform(0.1, 0.3)) for _, _, x in _SHOWN]
    blocks = [
        Block(shape, color, "large", x, y, angle)
        for (shape, color, _), (x, y, angle) in zip(_SHOWN, places, strict=True)
    ]
    azimuth = look.uniform(-0.15, 0.15)
    light = np.array([np.sin(azimuth) - 0.5, -0.6, 1.6])
    light /= np.linalg.norm(light)
    table = np.array([0.56, 0.54, 0.50]) * look.uniform(0.97, 1.03)
    brightness = look.uniform(0.97, 1.03)
    if change is not None:
        blocks = _change_blocks(blocks, change)
    scene = Scene(0, tuple(blocks), tuple(light.tolist()), tuple(table.tolist()))
    image = render(scene, size).image / 255.0 * brightness
    return Drawing(image, np.ones((size, size), dtype=bool))


def _change_blocks(blocks: list[Block], change: Change) -> list[Block]:
    generator = change.generator
    number = int(generator.integers(len(blocks)))
    chosen = blocks[number]
    if change.kind == "missing-part":
        return blocks[:number] + blocks[number + 1 :]
    if change.kind == "misplaced":
        away, way = generator.uniform(0.35, 1.0), generator.choice([-1.0, 1.0])
        moved = Block(chosen.shape, chosen.color, chosen.size, chosen.x, chosen.y + away * way, chosen.angle)
        return [*blocks[:number], moved, *blocks[number + 1 :]]
    if change.kind == "colour-shift":
        color = str(generator.choice(["green", "purple", "orange"]))
        other = Block(chosen.shape, color, chosen.size, chosen.x, chosen.y, chosen.angle)
        return [*blocks[:number], other, *blocks[number + 1 :]]
    x, y = generator.uniform(-1.8, 1.8), generator.choice([-1.9, -1.5, 1.4])
    shape, color = str(generator.choice(["ball", "cube"])), str(generator.choice(["green", "white", "black"]))
    return [*blocks, Block(shape, color, "small", float(x), float(y), float(generator.uniform(0, 1.5)))]
