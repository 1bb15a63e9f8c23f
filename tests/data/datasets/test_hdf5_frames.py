"""FrameReader: right frames whatever the layout, own handles per process, bounded memory."""

import multiprocessing
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from libero_files import COMPRESSED, HEIGHT, TASK, WIDTH, write_task

from vla.data.datasets.hdf5_frames import FrameReader
from vla.data.errors import BadEpisode

FILE = f"{TASK}_demo.hdf5"
FRAME = HEIGHT * WIDTH * 3
LAYOUTS = {
    "contiguous": None,
    "several frames by few rows": COMPRESSED,
    "whole frames": {"compression": "gzip", "chunks": (1, HEIGHT, WIDTH, 3)},
    "lzf and shuffle": {"compression": "lzf", "shuffle": True, "chunks": (5, HEIGHT, WIDTH, 3)},
}


def frames(reader: FrameReader, rows: list[int], demo: str = "demo_2", camera: str = "agentview") -> np.ndarray:
    out = np.empty((len(rows), HEIGHT, WIDTH, 3), dtype=np.uint8)
    reader.read(FILE, demo, camera, rows, out)
    return out


def handles_in_child(reader: FrameReader) -> tuple[int, list[int], bool]:
    before = [id(file) for file in reader._files.values()]
    frames(reader, [3])
    return (
        os.getpid(),
        [id(file) for file in reader._files.values() if id(file) in before],
        reader.process == os.getpid(),
    )


@pytest.mark.parametrize("cache_bytes", [2**20, 3 * FRAME, 0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_are_those_of_the_file(tmp_path: Path, layout: str, cache_bytes: int) -> None:
    path = write_task(tmp_path, image_options=LAYOUTS[layout])
    reader = FrameReader(tmp_path, cache_bytes)
    with h5py.File(path) as file:
        for camera in ("agentview", "eye_in_hand"):
            for demo, rows in (("demo_2", [14, 0, 0, 7, 8]), ("demo_0", [11]), ("demo_2", [13, 14])):
                expected = file[f"data/{demo}/obs/{camera}_rgb"][()][rows]
                assert np.array_equal(frames(reader, rows, demo, camera), expected)
    assert (reader.counters["raw"] > 0) == (layout == "contiguous")


def test_every_layer_of_chunks_is_decoded_once(tmp_path: Path) -> None:
    write_task(tmp_path, image_options=COMPRESSED)
    reader = FrameReader(tmp_path, 2**20)
    for row in range(15):
        frames(reader, [row])
    assert reader.counters == {"raw": 0, "hits": 11, "misses": 4, "opened": 1}
    assert reader.cached_bytes == 15 * FRAME


def test_cache_is_bounded_and_drops_the_oldest(tmp_path: Path) -> None:
    write_task(tmp_path, image_options=COMPRESSED)
    reader = FrameReader(tmp_path, 9 * FRAME)
    for row in (0, 4, 0, 8):  # layers of 4 frames: the third pushes out the one of row 4
        frames(reader, [row])
        assert reader.cached_bytes <= 9 * FRAME
    misses = reader.counters["misses"]
    frames(reader, [1])
    assert reader.counters["misses"] == misses
    frames(reader, [5])
    assert reader.counters["misses"] == misses + 1
    reader.close()
    assert reader.cached_bytes == 0
    assert frames(reader, [5]).any()


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_library_keeps_no_frames_of_its_own(tmp_path: Path, cache_bytes: int) -> None:
    """Either no chunk cache, or no dataset left open that would have one."""
    write_task(tmp_path, image_options=COMPRESSED)
    reader = FrameReader(tmp_path, cache_bytes)
    for demo in ("demo_0", "demo_1"):
        frames(reader, [0], demo)
    file = reader._files[FILE]
    chunk_cache = file.handle.id.get_access_plist().get_cache()[2]
    assert (chunk_cache, len(file.images)) == ((0, 2) if cache_bytes else (16 * 2**20, 0))


def test_open_files_are_bounded(tmp_path: Path) -> None:
    names = [write_task(tmp_path, f"task_number_{i}", lengths=(3,)).name for i in range(4)]
    reader = FrameReader(tmp_path, 0, max_open_files=2)
    out = np.empty((1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        for name in names:
            reader.read(name, "demo_0", "agentview", [1], out)
            assert len(reader._files) <= 2
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 4
    reader.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_opens_its_own_handles(tmp_path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    write_task(tmp_path, image_options=COMPRESSED)
    reader = FrameReader(tmp_path, 2**20)
    mine = frames(reader, [3])
    with multiprocessing.get_context(method).Pool(1) as pool:
        process, shared, is_own = pool.apply(handles_in_child, (reader,))
    assert process != os.getpid()
    assert (shared, is_own) == ([], True)
    assert np.array_equal(frames(reader, [3]), mine)


def test_forked_child_closes_what_it_inherits(tmp_path: Path) -> None:
    write_task(tmp_path, image_options=COMPRESSED)
    reader = FrameReader(tmp_path, 0)
    mine = frames(reader, [3])
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        inherited = next(iter(reader._files.values()))
        same = np.array_equal(frames(reader, [3]), mine)
        own = next(iter(reader._files.values())) is not inherited and not inherited.handle
        os.write(send, bytes([same, own]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(receive, 2) == b"\x01\x01"
    assert np.array_equal(frames(reader, [4]), frames(FrameReader(tmp_path, 0), [4]))


def test_pickling_leaves_handles_and_frames_behind(tmp_path: Path) -> None:
    write_task(tmp_path, image_options=COMPRESSED)
    reader = FrameReader(tmp_path, 2**20)
    frames(reader, [0])
    copy = pickle.loads(pickle.dumps(reader))
    assert (copy.counters["opened"], copy.cached_bytes) == (0, 0)
    assert np.array_equal(frames(copy, [0]), frames(reader, [0]))


def test_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = write_task(tmp_path)
    reader = FrameReader(tmp_path, 0)
    frames(reader, [0])
    os.truncate(path, 5000)
    with pytest.raises(BadEpisode, match=rf"{FILE}: demo_2: agentview frames 9 to 14 can't be read: the file ends"):
        frames(reader, [9, 14])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadEpisode, match="can't be read"):
        frames(FrameReader(tmp_path, 0), [0])
