"""The classes by name, and one example of them: a picture, and which of its pixels a defect has changed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.defects.blemishes import BLEMISHES
from vla.data.defects.drawing import Change, PictureClass
from vla.data.defects.objects import draw_blocks, draw_capsule, draw_plate
from vla.data.defects.surfaces import draw_fabric, draw_terrazzo, draw_wood
from vla.data.defects.textures import Generator

_CLASSES = (
    PictureClass("wood", draw_wood, (), ("scratch", "stain", "colour-shift", "hole")),
    PictureClass("fabric", draw_fabric, (), ("stain", "colour-shift", "foreign-object", "hole")),
    PictureClass("terrazzo", draw_terrazzo, (), ("scratch", "stain", "colour-shift", "foreign-object")),
    PictureClass("plate", draw_plate, ("missing-part", "misplaced"), ("scratch", "stain", "foreign-object")),
    PictureClass("capsule", draw_capsule, ("missing-part", "misplaced"), ("scratch", "stain", "colour-shift")),
    PictureClass("blocks", draw_blocks, ("missing-part", "misplaced", "colour-shift", "foreign-object"), ()),
)
PICTURE_CLASSES = {item.name: item for item in _CLASSES}
VISIBLE = 6 / 255  # a pixel is defective if the defect changes one of its colours by more
LEAST_PIXELS = 24  # of a defect in a picture of 256 x 256; smaller ones are drawn anew
CAMERA_NOISE = 1.5 / 255


@dataclass(frozen=True)
class Example:
    """A picture as it is written."""

    image: NDArray[np.uint8]  # [S, S, 3]
    mask: NDArray[np.bool_]  # [S, S]


def defects_of(name: str) -> tuple[str, ...]:
    """All defects that pictures of a class can have."""
    return (*PICTURE_CLASSES[name].changes, *PICTURE_CLASSES[name].defects)


def draw_example(name: str, key: tuple[int, ...], size: int, defect: str | None = None) -> Example:
    """
    An example of a class. The mask is where the picture with the defect differs from the same one without.

    Args:
        name: of the class.
        key: whole numbers that the picture, and nothing else, is made of.
        size: pixels, square.
        defect: of `defects_of(name)`; None: faultless.
    """
    item = PICTURE_CLASSES[name]
    faultless = item.draw(_generator(key, 0), size, None)
    image, mask = faultless.image, np.zeros((size, size), dtype=bool)
    least, attempt = LEAST_PIXELS * size**2 / 256**2, 0
    while defect is not None and mask.sum() < least:
        attempt += 1
        generator = _generator(key, attempt)
        if defect in item.changes:
            image = item.draw(_generator(key, 0), size, Change(defect, generator)).image
        else:
            image = BLEMISHES[defect](faultless.image, faultless.foreground, generator)
        mask = np.abs(image.clip(0, 1) - faultless.image.clip(0, 1)).max(axis=2) > VISIBLE
    noise = _generator(key, -1).normal(0, CAMERA_NOISE, image.shape)
    return Example(((image + noise).clip(0, 1) * 255 + 0.5).astype(np.uint8), mask)


def _generator(key: tuple[int, ...], part: int) -> Generator:
    return np.random.default_rng((*key, part + 1))
