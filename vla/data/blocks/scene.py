"""Random scenes: blocks on a table. Lengths are in table units (the table's visible part is about 6 wide)."""

from dataclasses import dataclass

import numpy as np

SHAPES = ("cube", "ball", "cylinder")
COLORS = {
    "red": (0.78, 0.12, 0.10),
    "green": (0.13, 0.55, 0.16),
    "blue": (0.12, 0.25, 0.80),
    "yellow": (0.92, 0.78, 0.10),
    "purple": (0.50, 0.15, 0.62),
    "orange": (0.95, 0.45, 0.05),
    "white": (0.92, 0.92, 0.90),
    "black": (0.06, 0.06, 0.07),
}
SIZES = {"small": 0.34, "large": 0.62}  # half a cube's edge, or a radius
MOST_BLOCKS = 6
GAP = 0.15  # between the circles around two blocks
_REACH = (2.3, 1.9)  # blocks stand within these distances of the table's middle, sideways and in depth
_MOST_DRAWS = 200


@dataclass(frozen=True)
class Block:
    """One block, standing on the table (z = 0)."""

    shape: str  # of SHAPES
    color: str  # of COLORS
    size: str  # of SIZES
    x: float  # to the right, as the camera sees it
    y: float  # away from the camera
    angle: float  # radians about the vertical axis

    @property
    def radius(self) -> float:
        """Half the height, and of balls and cylinders the radius."""
        return SIZES[self.size]

    @property
    def footprint(self) -> float:
        """Radius of the circle on the table that holds the block."""
        return self.radius * (np.sqrt(2.0) if self.shape == "cube" else 1.0)


@dataclass(frozen=True)
class Scene:
    """Blocks, and the light and the table that they are seen with."""

    seed: int
    blocks: tuple[Block, ...]
    light: tuple[float, float, float]  # direction towards the light, of length 1
    table: tuple[float, float, float]  # RGB in [0, 1]


def sample_scene(seed: int, attempt: int = 0) -> Scene:
    """A scene of a seed: two to six blocks that don't touch, no two of them alike in color, shape and size."""
    generator = np.random.default_rng((seed, attempt))
    wanted = int(generator.integers(2, MOST_BLOCKS + 1))
    blocks: list[Block] = []
    for _ in range(_MOST_DRAWS):
        if len(blocks) == wanted:
            break
        block = _sample_block(generator)
        if all(_fits(block, other) for other in blocks):
            blocks.append(block)
    azimuth, height = generator.uniform(0.0, 2 * np.pi), generator.uniform(0.9, 1.3)
    light = np.array([np.cos(azimuth), np.sin(azimuth), 2.0]) * (1.0, 1.0, height)
    table = generator.uniform(0.42, 0.68) * np.array([1.0, 0.97, 0.92]) * generator.uniform(0.94, 1.06, 3)
    x, y, z = light / np.linalg.norm(light)
    red, green, blue = table.clip(0.0, 1.0)
    return Scene(seed, tuple(blocks), (float(x), float(y), float(z)), (float(red), float(green), float(blue)))


def _sample_block(generator: np.random.Generator) -> Block:
    return Block(
        shape=str(generator.choice(SHAPES)),
        color=str(generator.choice(list(COLORS))),
        size=str(generator.choice(list(SIZES))),
        x=float(generator.uniform(-_REACH[0], _REACH[0])),
        y=float(generator.uniform(-_REACH[1], _REACH[1])),
        angle=float(generator.uniform(0.0, np.pi / 2)),
    )


def _fits(block: Block, other: Block) -> bool:
    apart = np.hypot(block.x - other.x, block.y - other.y) > block.footprint + other.footprint + GAP
    alike = (block.shape, block.color, block.size) == (other.shape, other.color, other.size)
    return bool(apart) and not alike
