"""What a class of pictures is: it draws faultless ones, and some of them with a part missing or in a wrong place."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.defects.textures import Array, Generator


@dataclass(frozen=True)
class Drawing:
    """A picture before the camera's noise."""

    image: Array  # [S, S, 3] in [0, 1]
    foreground: NDArray[np.bool_]  # [S, S], where defects of the surface may be


@dataclass(frozen=True)
class Change:
    """Something wrong with the object itself, to be drawn."""

    kind: str
    generator: Generator  # of where and how much; the object's own look has another


# (generator of the object's look, pixels, what is wrong) -> picture; the look depends on its generator alone
Draw = Callable[[Generator, int, Change | None], Drawing]


@dataclass(frozen=True)
class PictureClass:
    """A class.

    Attributes:
        draw: see `Draw`.
        changes: kinds that `draw` knows.
        defects: of the surface (`vla.data.defects.blemishes`) that its pictures can have.
    """

    name: str
    draw: Draw
    changes: tuple[str, ...]
    defects: tuple[str, ...]
