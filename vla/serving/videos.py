"""Films of episodes: MP4 where an encoder is installed, else GIF."""

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
