"""Films of episodes: MP4 where an encoder is installed, else GIF; and their frames again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np


def write_video(path: Path, frames: np.ndarray, fps: float) -> Path:
    """Write a film and return its path.

    Args:
        path: without its ending, which depends on what can be written.
        frames: uint8 [n, H, W, 3], the right way up for people.
        fps: frames per second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mp4 = path.with_name(f"{path.name}.mp4")
    beside = path.with_name(f".{path.name}.part.mp4")
    even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]  # the encoder takes no odd sizes
    try:
        import imageio.v2 as imageio

        with imageio.get_writer(beside, format="FFMPEG", fps=fps, macro_block_size=2, quality=7) as writer:
            for frame in even:
                writer.append_data(np.ascontiguousarray(frame))
    except (ImportError, OSError, ValueError, RuntimeError):  # no imageio, no ffmpeg, or one without an H.264 encoder
        beside.unlink(missing_ok=True)
        return _write_gif(path.with_name(f"{path.name}.gif"), frames, fps)
    os.replace(beside, mp4)
    return mp4


def _write_gif(path: Path, frames: np.ndarray, fps: float) -> Path:
    from PIL import Image

    pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)
    return path


def read_video(path: Path, fps: float) -> np.ndarray:
    """The frames uint8 [n, H, W, 3] of a film that `write_video` wrote; lossy.

    Args:
        path: with its ending.
        fps: as it was written; a GIF shows a frame that repeats longer instead of again.

    Raises:
        OSError: it isn't there, or is no film.
        ImportError: an MP4, and no decoder is installed.
    """
    if path.suffix == ".gif":
        return _read_gif(path, fps)
    import imageio.v2 as imageio

    with imageio.get_reader(path, format="FFMPEG") as reader:
        frames = [np.asarray(frame) for frame in reader]
    if not frames:
        raise OSError("no frames")
    return np.stack(frames)


def _read_gif(path: Path, fps: float) -> np.ndarray:
    from PIL import Image, ImageSequence

    frames: list[np.ndarray] = []
    with Image.open(path) as film:
        for frame in ImageSequence.Iterator(film):
            times = max(round(frame.info.get("duration", 0) * fps / 1000), 1)
            frames += [np.asarray(frame.convert("RGB"))] * times
    return np.stack(frames)
