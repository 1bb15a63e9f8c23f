"""The contact sheet is drawn from films on disk: which frames, which rows, and how a failure is marked."""

import numpy as np
import pytest
from PIL import Image

from vla.serving import contact_sheet
from vla.serving.contact_sheet import MAX_BYTES, SHEET, write_contact_sheet
from vla.serving.videos import read_video, write_video

FPS = 10.0


def film(value, length=31, size=32):
    """uint8 [length, size, 2 * size, 3]: grey, with a white line along the top."""
    frames = np.full((length, size, 2 * size, 3), value, np.uint8)
    frames[:, : size // 8] = 255
    return frames


def task(index, videos=None, told=None, successes=3):
    language = f"pick up number {index} and place it in the basket"
    counts = {"successes": successes, "episodes": 4}
    return {"index": index, "language": language, "instruction": told or language, "videos": videos or {}, **counts}


def results(tasks, **changes):
    overall = {"successes": 6, "episodes": 8, "rate": 0.75, "low": 0.4, "high": 0.93}
    episodes = [{"task": 0, "init_id": 12, "seed": 0, "steps": 61}]
    base = {"policy": {"name": "a policy"}, "suite": "libero_object", "instructions": "task", "film_every": 2}
    return {**base, "film_fps": FPS, "overall": overall, "tasks": tasks, "episodes": episodes, **changes}


def written(folder, index, outcome, init_id=12, frames=None):
    frames = film(100 if outcome == "success" else 60) if frames is None else frames
    path = write_video(folder / "videos" / f"task-{index:02d}-init-{init_id:02d}-{outcome}", frames, FPS)
    return f"videos/{path.name}"


@pytest.mark.parametrize("still", [False, True])
def test_film_comes_back_frame_by_frame(tmp_path, still):
    """A GIF merges frames that are alike; their number is needed to know the step."""
    frames = film(90)
    if not still:
        frames[:, 8:, :] = np.arange(31, dtype=np.uint8)[:, None, None, None] * 7
    again = read_video(write_video(tmp_path / "film", frames, FPS), FPS)
    assert again.shape == frames.shape
    assert np.abs(again.astype(int) - frames).mean() < 5


def test_six_evenly_spaced_frames_with_their_steps(tmp_path):
    name = written(tmp_path, 0, "success")
    row = contact_sheet._read_row(tmp_path / name, 0, "success", results([]))
    assert row.steps == [0, 12, 24, 36, 48, 60] and len(row.frames) == 6
    assert row.notes == ["init 12", "61 steps"]


def test_failures_are_marked_and_pictures_upright(tmp_path):
    videos = {"success": [written(tmp_path, 0, "success")], "failure": [written(tmp_path, 0, "failure", 3)]}
    path = write_contact_sheet(tmp_path, results([task(0, videos), task(1, {}, successes=0)]))
    assert path == tmp_path / SHEET and path.stat().st_size < MAX_BYTES
    with Image.open(path) as picture:
        pixels = np.asarray(picture).astype(int)
    red = (pixels[..., 0] > 150) & (pixels[..., 1:] < 90).all(axis=-1)
    green = (pixels[..., 1] > 100) & (pixels[..., [0, 2]] < 100).all(axis=-1)
    assert red.any() and green.any()
    assert red.nonzero()[0].min() > green.nonzero()[0].max()  # the success is above the failure
    grey = (abs(pixels - 100) < 12).all(axis=-1)  # the success's pictures, below their white upper edge
    top = grey[:, pixels.shape[1] // 2 : -20].mean(axis=1) > 0.9
    assert 90 <= top.sum() <= 100  # 7/8 of 112 rows


def test_task_without_films_keeps_its_line_and_none_is_no_sheet(tmp_path):
    one = results([task(0, {"success": [written(tmp_path, 0, "success")]})])
    with Image.open(write_contact_sheet(tmp_path, one)) as picture:
        height = picture.height
    other = task(1, told="pick up number 0 and place it in the basket")
    more = results([*one["tasks"], other], instructions="shuffled")
    with Image.open(write_contact_sheet(tmp_path, more)) as picture:
        assert picture.height > height
    assert write_contact_sheet(tmp_path, results([task(0)])) is None
    assert not (tmp_path / SHEET).exists()


def test_film_that_cannot_be_read_is_left_out(tmp_path, capfd):
    (tmp_path / "task-00-init-00-success.gif").write_bytes(b"no film")
    assert write_contact_sheet(tmp_path, results([task(0, {"success": ["task-00-init-00-success.gif"]})])) is None
    assert "contact_sheet.jpg: task-00-init-00-success.gif can't be read" in capfd.readouterr().err


def test_large_evaluations_stay_small(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (6, 64, 128, 3), dtype=np.uint8)
    name = written(tmp_path, 0, "success", frames=noise)
    monkeypatch.setattr(contact_sheet, "MAX_BYTES", 100_000)
    path = write_contact_sheet(tmp_path, results([task(i, {"success": [name]}) for i in range(3)]))
    assert path.stat().st_size < 100_000


def test_steps_beside_a_film_are_those_of_its_seed(tmp_path):
    path = write_video(tmp_path / "videos" / "task-00-init-12-seed-1-success", film(100), FPS)
    found = results([task(0)])
    found["episodes"].append({"task": 0, "init_id": 12, "seed": 1, "steps": 84})
    row = contact_sheet._read_row(path, 0, "success", found)
    assert row.notes == ["init 12", "84 steps"]
