"""The contact sheet: an episode of each task, six moments, all cameras, upright where that is known."""

from __future__ import annotations

import os
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vla.data.inspection.pictures import Orientation
from vla.data.inspection.raw import RawData, RawEpisode, read_frames

NUM_FRAMES = 6
_HEIGHT, _MARGIN, _GAP, _HEAD, _CAPTION = 112, 16, 6, 40, 18  # pixels
_PAGE, _INK, _MUTED, _LINE = "#ffffff", "#1c1f23", "#5c646d", "#dcdfe3"
_MOST_TASKS = 30


def write_sheet(data: RawData, orientation: Orientation | None, path: Path) -> Path:
    """Write the PNG, replacing one of before, and give its path.

    Raises:
        OSError: it can't be written.
    """
    tasks = {episode.task for episode in data.episodes if episode.frames}
    shown = [(episode.task, episode) for episode in first_of_tasks(data)]
    strips = [_strip(episode, orientation) for _, episode in shown]
    width = max((strip.width for strip in strips), default=640) + 2 * _MARGIN
    rows = [_HEAD + strip.height + _CAPTION for strip in strips]
    sheet = Image.new("RGB", (width, 2 * _MARGIN + 56 + sum(rows)), _PAGE)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_MARGIN, _MARGIN), data.title or data.root.resolve().name or str(data.root), _INK, 20, bold=True)
    _text(draw, (_MARGIN, _MARGIN + 27), _subtitle(data, orientation, len(tasks)), _MUTED, 14)
    top = _MARGIN + 56
    for (task, episode), strip, height in zip(shown, strips, rows, strict=True):
        draw.line((_MARGIN, top, width - _MARGIN, top), _LINE)
        title = data.instructions.get(task) or task
        _text(draw, (_MARGIN, top + 6), f"{title}  ({episode.demo})", _INK, 15, bold=True)
        _text(draw, (_MARGIN, top + 23), gripper_line(episode), _MUTED, 12)
        sheet.paste(strip, (_MARGIN, top + _HEAD))
        _steps(draw, episode, strip, top + _HEAD)
        top += height
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    sheet.save(beside, "PNG", optimize=True)
    os.replace(beside, path)
    return path


def first_of_tasks(data: RawData) -> list[RawEpisode]:
    """The episodes that are shown."""
    first: dict[str, RawEpisode] = {}
    for episode in data.episodes:
        if episode.frames:
            first.setdefault(episode.task, episode)
    return list(first.values())[:_MOST_TASKS]


def gripper_line(episode: RawEpisode) -> str:
    """At which steps the gripper's command changes, to be compared with the pictures."""
    command = episode.actions[:, -1]
    changes = np.flatnonzero(np.abs(np.diff(command)) > 0.5) + 1
    said = ", ".join(f"{command[step]:+g} from step {step}" for step in changes[:4])
    return f"gripper {command[0]:+g} at first" + (f", {said}" if said else "") + (" ..." if len(changes) > 4 else "")


def moments(episode: RawEpisode) -> NDArray[np.int64]:
    """The steps that are shown."""
    last = min(shape[0] for shape in episode.frames.values()) - 1
    return np.linspace(0, last, NUM_FRAMES).round().astype(np.int64)


def _subtitle(data: RawData, orientation: Orientation | None, tasks: int) -> str:
    how = "as they are stored" if orientation is None else "turned upright"
    more = f", the first {_MOST_TASKS} of {tasks} tasks" if tasks > _MOST_TASKS else ""
    return f"{len(data.episodes)} episodes; {', '.join(data.cameras)}; pictures {how}{more}"


def _strip(episode: RawEpisode, orientation: Orientation | None) -> Image.Image:
    """Six moments in a row, the cameras of each below each other."""
    pictures = []
    for camera in episode.frames:
        frames = read_frames(episode, camera)[moments(episode)]
        pictures.append(frames if orientation is None else orientation.upright(frames))
    sizes = [(round(_HEIGHT * item.shape[2] / item.shape[1]), _HEIGHT) for item in pictures]
    across = max(size[0] for size in sizes) + _GAP
    strip = Image.new("RGB", (NUM_FRAMES * across - _GAP, len(pictures) * (_HEIGHT + _GAP) - _GAP), _PAGE)
    for row, (frames, size) in enumerate(zip(pictures, sizes, strict=True)):
        for column, frame in enumerate(frames):
            picture = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.LANCZOS)
            strip.paste(picture, (column * across, row * (_HEIGHT + _GAP)))
    return strip


def _steps(draw: ImageDraw.ImageDraw, episode: RawEpisode, strip: Image.Image, top: int) -> None:
    across = (strip.width + _GAP) / NUM_FRAMES
    for column, step in enumerate(moments(episode)):
        place = (_MARGIN + round(column * across), top + strip.height + 1)
        _text(draw, place, f"step {step}", _MUTED, 12)


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, colour: str, size: int, bold: bool = False
) -> None:
    """In the font that comes with matplotlib, so that the picture is the same everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
    draw.text(place, text, colour, font)
