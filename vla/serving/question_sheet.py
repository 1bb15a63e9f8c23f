"""A sheet of pictures with the questions that were asked about them, the answers, and which of them are right."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from vla.evaluation.question_answering import Answered

NUM_PICTURES = 8
_SIDE, _LINE, _MARGIN, _TEXT_WIDTH, _COLUMNS = 200, 30, 16, 400, 2
_PAGE, _INK, _RIGHT, _WRONG, _MUTED = "#ffffff", "#1c1f23", "#1a7f4b", "#c1272d", "#5c646d"


def draw_examples(
    pictures: list[Path | Image.Image], answered: list[list[Answered]], count: int = NUM_PICTURES
) -> Image.Image:
    """The first `count` pictures, two in a row, each with its questions.

    Args:
        pictures: or their paths.
        answered: by picture.
    """
    shown = list(zip(pictures, answered, strict=True))[:count]
    rows = -(-len(shown) // _COLUMNS)
    width, height = _SIDE + _TEXT_WIDTH + 2 * _MARGIN, _SIDE + _MARGIN
    sheet = Image.new("RGB", (_COLUMNS * width + _MARGIN, rows * height + _MARGIN), _PAGE)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, items) in enumerate(shown):
        opened = picture if isinstance(picture, Image.Image) else Image.open(picture)
        left = _MARGIN + number % _COLUMNS * width
        top = _MARGIN + number // _COLUMNS * height
        sheet.paste(opened.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (left, top))
        for line, item in enumerate(items[: _SIDE // _LINE]):
            _write(draw, (left + _SIDE + _MARGIN // 2, top + line * _LINE), item)
    return sheet


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], item: Answered) -> None:
    x, y = place
    draw.text((x, y), item.question, fill=_INK, font=_font(12))
    mark, color = ("\u2713", _RIGHT) if item.correct else ("\u2717", _WRONG)
    said = item.predicted.strip().split("\n")[0][:40] or "(nothing)"
    draw.text((x, y + 14), f"{said} {mark}", fill=color, font=_font(12))
    if not item.correct:
        used = draw.textlength(f"{said} {mark}  ", font=_font(12))
        draw.text((x + used, y + 14), f"it is {item.answer}", fill=_MUTED, font=_font(12))


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Of matplotlib, which every installation has."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
