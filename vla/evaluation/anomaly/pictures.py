"""Pictures to look at: what was seen, where the defect is, and what the map of anomaly says, side by side."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vla.evaluation.anomaly.ranking import average_precision, rank
from vla.evaluation.anomaly.results import Picture

_HEAT = np.array(  # from nothing to much: dark blue, blue, green, yellow, red
    [[0.19, 0.07, 0.23], [0.27, 0.45, 0.95], [0.20, 0.85, 0.55], [0.98, 0.85, 0.25], [0.75, 0.05, 0.02]]
)
_CELL, _GAP, _HEAD = 192, 6, 18  # pixels
_OPACITY = 0.55
_TITLES = ("picture", "truth", "anomaly")


class Choice(NamedTuple):
    """A picture to show, and why."""

    why: str
    picture: Picture


def choose(pictures: Sequence[Picture], shape: tuple[int, ...], image_score: str = "max") -> list[Choice]:
    """
    The defective pictures of a class whose defects are found best, middling and worst (by the average precision of
    their pixels), and the good one with the highest score. Without defective ones, good ones by their scores.

    Args:
        pictures: of one class.
        shape: height and width of the maps.
        image_score: name of the score.
    """
    size = int(np.prod(shape))
    masks = {p.sample: np.unpackbits(np.frombuffer(p.mask, np.uint8), count=size).astype(bool) for p in pictures}
    bad = [picture for picture in pictures if masks[picture.sample].any()]
    good = sorted((p for p in pictures if not masks[p.sample].any()), key=lambda p: -p.scores[image_score])
    if not bad:
        return _three([(picture, f"good, score {picture.scores[image_score]:.3g}") for picture in reversed(good)])
    found = {picture.sample: _precision(picture, masks[picture.sample]) for picture in bad}
    bad.sort(key=lambda picture: (-found[picture.sample], picture.sample))
    shown = _three([(picture, f"AP {100 * found[picture.sample]:.0f} %") for picture in bad])
    if good:
        score = good[0].scores[image_score]
        shown.append(Choice(f"good, but the highest score of them, {score:.3g}", good[0]))
    return shown


def _precision(picture: Picture, mask: NDArray[np.bool_]) -> float:
    if mask.all():
        return 1.0
    return average_precision(rank(picture.values[~mask], picture.values[mask]))


def _three(ordered: list[tuple[Picture, str]]) -> list[Choice]:
    """The first, the middle and the last."""
    places = {"best": 0, "median": len(ordered) // 2, "worst": len(ordered) - 1}
    chosen: dict[int, str] = {}
    for name, place in places.items():
        chosen.setdefault(place, name)
    return [Choice(f"{name}: {ordered[place][1]}", ordered[place][0]) for place, name in chosen.items()]


def sheet(
    choices: Sequence[Choice], images: Sequence[NDArray[np.uint8]], shape: tuple[int, int], scale: tuple[float, float]
) -> Image.Image:
    """
    A row for each picture: itself, its mask, and its map laid over it with the mask's outline.

    Args:
        choices: what to show.
        images: uint8 [3, H, W] of them.
        shape: H and W.
        scale: values of the maps that the coldest and the hottest colour stand for.
    """
    width, row = 3 * _CELL + 4 * _GAP, _CELL + _HEAD + _GAP
    page = Image.new("RGB", (width, _HEAD + row * len(choices)), (255, 255, 255))
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(_TITLES):
        draw.text((_GAP + column * (_CELL + _GAP), 3), title, fill=(90, 90, 90))
    for number, (choice, image) in enumerate(zip(choices, images, strict=True)):
        top = _HEAD + number * row
        cells = _cells(choice.picture, image, shape, scale)
        for column, cell in enumerate(cells):
            tile = Image.fromarray(cell).resize((_CELL, _CELL), Image.Resampling.BILINEAR)
            page.paste(tile, (_GAP + column * (_CELL + _GAP), top))
        draw.text((_GAP, top + _CELL + 2), choice.why, fill=(20, 20, 20))
    return page


def _cells(
    picture: Picture, image: NDArray[np.uint8], shape: tuple[int, int], scale: tuple[float, float]
) -> tuple[NDArray[np.uint8], ...]:
    pixels = image.transpose(1, 2, 0).astype(np.float64)
    mask = np.unpackbits(np.frombuffer(picture.mask, np.uint8), count=shape[0] * shape[1]).reshape(shape).astype(bool)
    low, high = scale
    level = ((picture.values.reshape(shape) - low) / max(high - low, 1e-12)).clip(0, 1)
    over = (1 - _OPACITY) * pixels + _OPACITY * 255 * heat(level)
    over[_outline(mask)] = 255
    truth = np.repeat(mask[..., None], 3, axis=2) * 255
    return pixels.astype(np.uint8), truth.astype(np.uint8), over.astype(np.uint8)


def heat(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours [..., 3] in [0, 1] of levels [...] in [0, 1]."""
    places = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(level, places, _HEAT[:, channel]) for channel in range(3)], axis=-1)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask that touch one outside of it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside
