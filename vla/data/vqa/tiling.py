"""The grid of square tiles that a picture is cut into, from its size alone. H and W in pixels."""

import math
from dataclasses import dataclass

Grid = tuple[int, int]  # rows, columns


@dataclass(frozen=True)
class Tiling:
    """
    How large a picture is made, and how it is cut.

    Args:
        tile: pixels of a tile's side, as the vision backbone takes it.
        max_side: pixels of the longer side at most, a multiple of `tile`.
        resize_to_max: make the longer side `max_side`, also of small pictures.
    """

    tile: int
    max_side: int
    resize_to_max: bool = True

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is resized to, multiples of `tile`: its aspect, rounded up to whole tiles."""
        long, short = max(height, width), min(height, width)
        longer = self.max_side if self.resize_to_max else min(self.max_side, math.ceil(long / self.tile) * self.tile)
        shorter = max(self.tile, math.ceil(short * (longer / long) / self.tile) * self.tile)
        return (shorter, longer) if width >= height else (longer, shorter)

    def grid(self, height: int, width: int) -> Grid:
        """Rows and columns of tiles of a picture."""
        new_height, new_width = self.resized(height, width)
        return new_height // self.tile, new_width // self.tile


def num_tiles(grid: Grid, *, whole: bool = True) -> int:
    """Tiles of a picture: those of its grid and, with `whole`, if there are several, the whole picture as one more."""
    rows, columns = grid
    return rows * columns + int(whole and rows * columns > 1)
