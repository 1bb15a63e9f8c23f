"""Frames by time: random access gives what decoding from the start gives, whatever the key frames."""

from pathlib import Path

import av
import numpy as np
import pytest
from robot_files import FPS, write_mp4

from vla.data.datasets.episodes import BoundedCache
from vla.data.datasets.video_frames import VideoError, VideoFrames, video_size

LENGTH, HEIGHT, WIDTH = 30, 32, 48


def moving() -> np.ndarray:
    """Frames that differ: a bright bar that moves over noise."""
    frames = np.random.default_rng(0).integers(0, 60, (LENGTH, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        frame[:, number : number + 6] = 200
    return frames


def in_order(path: Path) -> np.ndarray:
    """All frames, decoded from the start without seeking."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("codec", "gop", "options"),
    [
        ("libx264", 2, {}),  # LeRobot's own
        ("libx264", 12, {"bf": "3", "preset": "medium"}),  # frames are stored in another order than shown
        ("libx264", 250, {}),  # one key frame
        ("libsvtav1", 2, {}),
    ],
)
@pytest.mark.parametrize("cache", [0, 10**7])
def test_random_access_equals_decoding_in_order(codec: str, gop: int, options, cache: int, tmp_path: Path) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this av has no {codec}")
    path, height, width = (
        tmp_path / "a.mp4",
        HEIGHT * (2 if "av1" in codec else 1),
        WIDTH * (2 if "av1" in codec else 1),
    )
    frames = moving().repeat(height // HEIGHT, 1).repeat(width // WIDTH, 2)
    write_mp4(path, frames, codec, gop, **options)
    expected = in_order(path)
    assert len(expected) == LENGTH and video_size(path)[:2] == (height, width)
    videos = VideoFrames(BoundedCache(cache))
    random = np.random.default_rng(1)
    for numbers in ([LENGTH - 1], [0], [7, 3, 7], *(random.integers(0, LENGTH, 3) for _ in range(12 if cache else 4))):
        out = np.empty((len(numbers), height, width, 3), np.uint8)
        videos.read(path, [number / FPS for number in numbers], out)
        assert np.array_equal(out, expected[list(numbers)])
    if cache:
        assert videos.counters["hits"] > 0
    videos.close()


def test_reading_in_order_decodes_each_frame_once(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", moving(), gop=10)
    videos = VideoFrames(BoundedCache(0))
    for number in range(LENGTH):
        videos.read(tmp_path / "a.mp4", [number / FPS], np.empty((1, HEIGHT, WIDTH, 3), np.uint8))
    assert videos.counters["decoded"] == LENGTH


def test_files_are_closed_when_others_are_needed(tmp_path: Path) -> None:
    videos = VideoFrames(BoundedCache(0), max_open=2)
    for name in "abc":
        write_mp4(tmp_path / f"{name}.mp4", moving()[:4])
    for name in "abcab":
        videos.read(tmp_path / f"{name}.mp4", [2 / FPS], np.empty((1, HEIGHT, WIDTH, 3), np.uint8))
    assert len(videos._open) == 2


@pytest.mark.parametrize(
    ("times", "shape", "words"),
    [
        ([LENGTH / FPS], (HEIGHT, WIDTH), "no frame at 1.5000 s: the nearest is at 1.4500 s"),
        ([0.5 / FPS], (HEIGHT, WIDTH), "no frame at 0.0250 s"),
        ([-1.0], (HEIGHT, WIDTH), "no frame at -1.0000 s"),
        ([0.0], (HEIGHT, WIDTH + 2), "frames are 32x48, expected 32x50"),
    ],
)
def test_a_frame_that_is_not_there_is_named(times, shape, words: str, tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", moving())
    with pytest.raises(VideoError) as raised:
        VideoFrames(BoundedCache(0)).read(tmp_path / "a.mp4", times, np.empty((1, *shape, 3), np.uint8))
    assert words in str(raised.value)


def test_what_is_no_mp4_is_refused(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", moving())
    secret = tmp_path / "b.mp4"
    secret.write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'a.mp4'}\n#EXT-X-ENDLIST\n")  # a playlist names other files
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "c.mp4").write_bytes(whole[: len(whole) // 2])  # the index stands at the end
    for name in "bc":
        with pytest.raises(VideoError) as raised:
            video_size(tmp_path / f"{name}.mp4")
        assert "\n" not in str(raised.value)
