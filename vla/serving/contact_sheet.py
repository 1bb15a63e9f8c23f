"""Contact sheet of an evaluation: one picture with a success and a failure of every task, from its films on disk."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vla.overwatch import initialize_overwatch
from vla.serving.videos import read_video

overwatch = initialize_overwatch(__name__)

SHEET = "contact_sheet.jpg"
NUM_FRAMES = 6
MAX_BYTES = 1_400_000
# Height of a picture in pixels and quality of the JPEG: the first that stays below MAX_BYTES, else the last.
_SIZES = ((112, 88), (112, 75), (88, 70), (64, 60), (48, 50))
_MARGIN, _GAP, _LABEL, _CAPTION, _BORDER = 16, 6, 96, 17, 3
_PAGE, _INK, _MUTED, _LINE = "#ffffff", "#1c1f23", "#5c646d", "#dcdfe3"
_COLOURS = {"success": "#1a7f4b", "failure": "#c1272d"}


@dataclass(frozen=True)
class _Row:
    """Frames uint8 [n, H, W, 3] of one episode, the control step of each, and what is written beside them."""

    outcome: str  # success | failure
    frames: NDArray[np.uint8]
    steps: list[int]
    notes: list[str]


@dataclass(frozen=True)
class _Block:
    """One task."""

    title: str
    told: str  # the instruction, where it is another task's
    rate: str
    rows: list[_Row]


def write_contact_sheet(folder: Path, results: dict[str, Any]) -> Path | None:
    """Write `contact_sheet.jpg` into `folder`, at most 1.4 MB.

    A task has a row of six frames evenly spaced over a success and, where there is one, a marked row of a failure.

    Args:
        folder: of the evaluation, with the films.
        results: what `results.json` holds; `tasks[i]["videos"]` names the films.

    Returns:
        The picture's path; None if no film could be read. One of earlier films is then removed.
    """
    blocks = [_read_block(folder, task, results) for task in results["tasks"]]
    path = folder / SHEET
    if not any(block.rows for block in blocks):
        path.unlink(missing_ok=True)
        return None
    overall = results["overall"]
    title = f"{results['policy']['name']} on {results['suite']}"
    if results["instructions"] == "shuffled":
        title += ", each task told the instruction of another"
    title += "".join(f", {name} {value}" for name, value in results.get("options", {}).items())
    rate = "" if overall["rate"] is None else f"  {overall['rate']:.1%} ({overall['low']:.1%} – {overall['high']:.1%})"
    summary = f"{overall['successes']}/{overall['episodes']} successes{rate}"
    for height, quality in _SIZES:
        buffer = io.BytesIO()
        _draw(title, summary, blocks, height).save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(buffer.getvalue())
    os.replace(beside, path)
    return path


def _read_block(folder: Path, task: dict[str, Any], results: dict[str, Any]) -> _Block:
    rows = []
    for outcome in _COLOURS:
        for name in task["videos"].get(outcome, [])[:1]:
            row = _read_row(folder / name, task["index"], outcome, results)
            rows += [] if row is None else [row]
    told = "" if task["instruction"] == task["language"] else task["instruction"]
    return _Block(f"{task['index']}  {task['language']}", told, f"{task['successes']}/{task['episodes']}", rows)


def _read_row(path: Path, task: int, outcome: str, results: dict[str, Any]) -> _Row | None:
    try:
        frames = read_video(path, results["film_fps"])
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        overwatch.warning(f"{SHEET}: {path.name} can't be read: {error}")
        return None
    chosen = np.linspace(0, len(frames) - 1, min(NUM_FRAMES, len(frames))).round().astype(int)
    init_id, seed = _episode_of(path.stem)
    found = [
        row["steps"]
        for row in results["episodes"]
        if (row["task"], row["init_id"]) == (task, init_id) and seed in (None, row["seed"])
    ]
    notes = [f"init {init_id}", *(f"{steps} steps" for steps in found[:1])]
    return _Row(outcome, frames[chosen], [int(number) * results["film_every"] for number in chosen], notes)


def _episode_of(stem: str) -> tuple[int, int | None]:
    """Initial state and, if the film's name has one, seed: task-03-init-12-success, task-03-init-12-seed-1-success."""
    words = stem.split("-")
    return int(words[3]), int(words[5]) if words[4] == "seed" else None


# --- drawing ---


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that the picture is the same everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _draw(title: str, summary: str, blocks: list[_Block], height: int) -> Image.Image:
    """The sheet with pictures of `height` pixels."""
    frames = next(row.frames for block in blocks for row in block.rows)
    width = round(height * frames.shape[2] / frames.shape[1])
    across = 2 * _MARGIN + _LABEL + NUM_FRAMES * (width + _GAP) - _GAP
    heads = [34 + (22 if block.told else 0) for block in blocks]
    downward = 2 * _MARGIN + 62 + sum(heads) + sum(len(block.rows) for block in blocks) * (height + _CAPTION + _GAP)
    sheet = Image.new("RGB", (across, downward), _PAGE)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, _INK, _font(20, bold=True))
    draw.text((_MARGIN, _MARGIN + 28), summary, _MUTED, _font(16))
    top = _MARGIN + 62
    for block, head in zip(blocks, heads, strict=True):
        draw.line((_MARGIN, top, across - _MARGIN, top), _LINE)
        draw.text((_MARGIN, top + 7), block.title, _INK, _font(16, bold=True))
        draw.text((across - _MARGIN, top + 7), f"{block.rate} successes", _INK, _font(16, bold=True), anchor="ra")
        if block.told:
            draw.text((_MARGIN, top + 30), f"told: {block.told}", _MUTED, _font(15))
        top += head
        for row in block.rows:
            _draw_row(sheet, draw, row, top, (width, height))
            top += height + _CAPTION + _GAP
    return sheet


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: _Row, top: int, size: tuple[int, int]) -> None:
    width, height = size
    colour = _COLOURS[row.outcome]
    draw.rectangle((_MARGIN, top, _MARGIN + _LABEL - 10, top + 23), colour)
    draw.text((_MARGIN + (_LABEL - 10) / 2, top + 12), row.outcome, "#ffffff", _font(14, bold=True), anchor="mm")
    for number, note in enumerate(row.notes if height >= 60 else row.notes[:1]):
        draw.text((_MARGIN, top + 29 + 18 * number), note, _MUTED, _font(13))
    for number, (frame, step) in enumerate(zip(row.frames, row.steps, strict=True)):
        left = _MARGIN + _LABEL + number * (width + _GAP)
        picture = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.LANCZOS)
        sheet.paste(picture, (left, top))
        if row.outcome == "failure":
            draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=_BORDER)
        draw.text((left, top + height + 1), f"step {step}", _MUTED, _font(12))
