"""Single frames out of mp4 files, by their time: random access gives what decoding from the start gives."""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.datasets.episodes import MAX_PIXELS, BoundedCache, Frames
from vla.data.datasets.optional import import_lerobot

MAX_OPEN_VIDEOS = 8  # each has a decoder's memory
_NEAR = 0.25  # of the time between two frames: a frame further than that from what was asked is another one


class VideoError(ValueError):
    """A frame can't be read; the message doesn't name the file."""


@dataclass(frozen=True)
class _Index:
    """All frames of a file, in the order in which they are shown."""

    pts: NDArray[np.int64]
    keys: list[int]  # numbers of frames that can be decoded without others, the first one 0
    seconds: NDArray[np.float64]
    gap: float  # between two frames, in seconds


@dataclass
class _Decoder:
    container: Any
    stream: Any
    index: _Index
    frames: Iterator[Any] | None = None
    following: int = 0  # number of the frame that `frames` gives next, if all goes well

    def close(self) -> None:
        self.frames = None
        self.container.close()


def video_size(path: Path) -> tuple[int, int, int]:
    """Height, width and number of frames (0: not said) that a file's header claims.

    Raises:
        VideoError: it can't be read.
    """
    av = import_lerobot("av")
    try:
        with _open_container(av, path) as container:
            stream = _video_stream(container)
            return stream.height, stream.width, stream.frames
    except (av.FFmpegError, OSError) as error:
        raise VideoError(_reason(error)) from None


class VideoFrames:
    """Decodes frames of videos. Every process opens files for itself.

    Args:
        cache: where decoded frames are kept, those on the way to the one that was asked for, too.
        max_open: files that are open at once; the least recently used one is closed.
    """

    def __init__(self, cache: BoundedCache, max_open: int = MAX_OPEN_VIDEOS) -> None:
        self.cache = cache
        self.max_open = max_open
        self.counters = {"hits": 0, "decoded": 0, "seeks": 0}
        self._process = os.getpid()
        self._open: OrderedDict[Path, _Decoder] = OrderedDict()
        self._indexes: dict[Path, _Index] = {}

    def close(self) -> None:
        """Close all files."""
        for decoder in self._open.values():
            decoder.close()
        self._open.clear()

    def read(self, path: Path, times: Sequence[float], out: Frames) -> None:
        """Copy the frames that are shown at `times` (seconds, any order) into `out`, uint8 [n, H, W, 3].

        Raises:
            VideoError: the file can't be decoded, is of another size, or has no frame at one of the times.
        """
        av = import_lerobot("av")
        try:
            index = self._index(av, path)
            numbers = [_frame_at(index, time) for time in times]
            found = {number: self.cache.get((path, number)) for number in set(numbers)}
            missing = sorted(number for number, frame in found.items() if frame is None)
            self.counters["hits"] += len(found) - len(missing)
            for number in missing:
                found[number] = self._decode(av, path, number, out.shape[1:3])
        except (av.FFmpegError, OSError) as error:
            raise VideoError(_reason(error)) from None
        for target, number in zip(out, numbers, strict=True):
            np.copyto(target, found[number])

    def _index(self, av: Any, path: Path) -> _Index:
        if path not in self._indexes:
            with _open_container(av, path) as container:
                self._indexes[path] = _read_index(container)
        return self._indexes[path]

    def _decoder(self, av: Any, path: Path) -> _Decoder:
        if self._process != os.getpid():  # a fork shares the parent's file positions
            self._open.clear()
            self._process = os.getpid()
        decoder = self._open.get(path)
        if decoder is None:
            while len(self._open) >= self.max_open:
                self._open.popitem(last=False)[1].close()
            container = _open_container(av, path)
            stream = _video_stream(container)
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 1  # the loader has processes of its own
            decoder = self._open[path] = _Decoder(container, stream, self._index(av, path))
        self._open.move_to_end(path)
        return decoder

    def _decode(self, av: Any, path: Path, number: int, size: tuple[int, ...]) -> Frames:
        """Frame `number`, from the key frame before it or from where the decoder stands."""
        decoder = self._decoder(av, path)
        keys = decoder.index.keys
        key = bisect_right(keys, number) - 1
        if decoder.frames is None or not keys[key] <= decoder.following <= number:
            self._seek(decoder, keys[key])
        while True:
            frame, shown = self._next(decoder)
            if frame is not None and shown < number:
                if shown >= keys[key]:  # frames before the key frame may lack what they refer to
                    self._keep(path, shown, frame, size)
                continue
            if frame is not None and shown == number:
                return self._keep(path, shown, frame, size)
            if key == 0:
                raise VideoError(f"no frame number {number} can be decoded")
            key -= 1  # the file's index led too far: one key frame earlier
            self._seek(decoder, keys[key])

    def _seek(self, decoder: _Decoder, number: int) -> None:
        self.counters["seeks"] += 1
        decoder.container.seek(int(decoder.index.pts[number]), stream=decoder.stream, backward=True)
        decoder.frames = iter(decoder.container.decode(decoder.stream))
        decoder.following = number

    def _next(self, decoder: _Decoder) -> tuple[Any, int]:
        """The next frame and its number; None at the end."""
        assert decoder.frames is not None
        for frame in decoder.frames:
            self.counters["decoded"] += 1
            number = int(np.searchsorted(decoder.index.pts, -1 if frame.pts is None else frame.pts))
            if number < len(decoder.index.pts) and decoder.index.pts[number] == frame.pts:
                decoder.following = number + 1
                return frame, number
        decoder.frames = None
        return None, -1

    def _keep(self, path: Path, number: int, frame: Any, size: tuple[int, ...]) -> Frames:
        if (frame.height, frame.width) != tuple(size):
            raise VideoError(f"frames are {frame.height}x{frame.width}, expected {size[0]}x{size[1]}")
        pixels: Frames = frame.to_ndarray(format="rgb24")
        self.cache.put((path, number), pixels, pixels.nbytes)
        return pixels


def _open_container(av: Any, path: Path) -> Any:
    # The format is fixed: a playlist under this name could name any other file.
    return av.open(str(path.absolute()), format="mp4")


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise VideoError("has no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise VideoError("is coded in a way that the installed av can't decode")
    if stream.height * stream.width > MAX_PIXELS:
        raise VideoError(f"has frames of {stream.height} x {stream.width} pixels")
    return stream


def _read_index(container: Any) -> _Index:
    stream = _video_stream(container)
    found = [
        (packet.pts, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.pts is not None and not packet.is_discard
    ]
    if not found:
        raise VideoError("has no frames")
    found.sort()
    pts = np.array([time for time, _ in found], dtype=np.int64)
    keys = [number for number, (_, is_key) in enumerate(found) if is_key]
    seconds = (pts * float(stream.time_base)).astype(np.float64)
    gap = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1 / float(stream.average_rate or 30)
    return _Index(pts, keys if keys and keys[0] == 0 else [0, *keys], seconds, gap)


def _frame_at(index: _Index, time: float) -> int:
    number = int(np.clip(np.searchsorted(index.seconds, time), 0, len(index.seconds) - 1))
    if number and time - index.seconds[number - 1] < index.seconds[number] - time:
        number -= 1
    if not abs(index.seconds[number] - time) <= _NEAR * index.gap:
        last = index.seconds[-1]
        raise VideoError(f"no frame at {time:.4f} s: the nearest is at {index.seconds[number]:.4f} s of {last:.4f} s")
    return number


def _reason(error: BaseException) -> str:
    """Why, without the path, which the caller gives."""
    return str(getattr(error, "strerror", None) or error).strip().rstrip(".") or type(error).__name__
