"""`vla data doctor`: true of the shipped data, and each fault is found where it was put."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from libero_files import TASK, write_task
from PIL import Image

from vla.commands.main import main
from vla.conf.datasets import SHIPPED_DATA
from vla.conf.inspection import InspectConfig
from vla.data.inspection import numbers, pictures
from vla.data.inspection.command import examine
from vla.data.inspection.raw import RawData, read_frames, read_raw
from vla.overwatch.findings import Finding

MINI = SHIPPED_DATA / "libero-mini"
MILK = MINI / "pick_up_the_milk_and_place_it_in_the_basket_demo.hdf5"


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {item.name: item for item in findings}


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., dict[str, Finding]]:
    """Write a task, change its file, and examine the folder."""

    def run(change: Callable[[h5py.Group], None] | None = None, **options) -> dict[str, Finding]:
        path = write_task(tmp_path / "data", **{"lengths": (40, 50, 60), **options})
        if change is not None:
            with h5py.File(path, "r+") as file:
                change(file["data"])
        return by_name(examine(InspectConfig(path=tmp_path / "data", output=tmp_path / "sheet.png"))[0])

    return run


def put(group: h5py.Group, name: str, values: np.ndarray) -> None:
    del group[name]
    group[name] = values


# --- the shipped data ---


def test_the_shipped_data_is_in_order(tmp_path: Path, capsys) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["data", "doctor", str(MINI), "--output", str(sheet), "--episodes", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["ok"] == len(found["findings"]) and found["contact_sheet"] == str(sheet)
    details = {item["name"]: item["detail"] for item in found["findings"]}
    assert details["in and out"] == (
        "12 episodes, 1,204 steps, 4 tasks in 4 files; training reads 12 episodes, 1,204 samples"
    )
    assert "the higher one closes" in details["gripper"] and details["orientation"].startswith("stored bottom-up")
    with Image.open(sheet) as picture:
        assert picture.format == "PNG" and picture.height > 4 * 230 and picture.width > 6 * 112


def test_the_script_is_the_same_command(tmp_path: Path, capsys, monkeypatch) -> None:
    script = runpy.run_path(str(SHIPPED_DATA.parents[1] / "scripts" / "data.py"))["main"]
    monkeypatch.chdir(tmp_path)
    assert script(["doctor", str(MILK), "--episodes", "1"]) == 0
    assert "3 episodes, 301 steps, 1 tasks in 1 files; training reads 3 episodes, 301 samples" in " ".join(
        capsys.readouterr().out.split()
    )
    assert [path.name for path in tmp_path.iterdir()] == [f"{MILK.stem}-contact-sheet.png"]


@pytest.mark.parametrize(
    ("turn", "words", "status"),
    [
        (lambda frames: frames, "bottom-up, as", "ok"),
        (lambda frames: frames[:, ::-1], "upright", "warning"),
        (lambda frames: frames[:, ::-1, ::-1], "turned by 180 degrees", "warning"),
        (lambda frames: frames[:, :, ::-1], "bottom-up and mirrored", "warning"),
        (lambda frames: np.random.default_rng(0).integers(0, 255, frames.shape, np.uint8), "can't be told", "note"),
    ],
)
def test_orientation_is_told_from_the_pictures_alone(monkeypatch, turn, words: str, status: str) -> None:
    data = read_raw(MILK)
    raw = read_frames(data.episodes[0], "agentview")
    monkeypatch.setattr(pictures, "read_frames", lambda episode, camera: turn(raw))
    guess = pictures.guess_orientation(data.episodes[:1])
    found = pictures._orientation(guess, data)
    assert words in found.detail and found.status == status and bool(found.advice) == (status != "ok")
    if guess is not None:
        assert np.array_equal(guess.upright(turn(raw)), raw[:, ::-1])


@pytest.mark.parametrize(
    ("change", "words", "status"),
    [
        (lambda command: command, "commands -1, 1; the higher one closes", "ok"),
        (lambda command: -command, "commands -1, 1; the lower one closes", "warning"),
        (lambda command: (command + 1) / 2, "commands 0, 1; the higher one closes", "warning"),
        (lambda command: (1 - command) / 2, "commands 0, 1; the lower one closes", "warning"),
        (np.zeros_like, "it never moves", "warning"),
    ],
)
def test_gripper_is_told_from_the_fingers(change, words: str, status: str) -> None:
    data = read_raw(MILK)
    changed = []
    for episode in data.episodes:
        actions = episode.actions.copy()
        actions[:, -1] = change(actions[:, -1])
        changed.append(replace(episode, actions=actions))
    found = numbers.gripper(RawData(data.root, data.files, changed))
    assert words in found.detail and found.status == status
    blind = [replace(episode, states={}) for episode in changed]
    assert status != "ok" or numbers.gripper(RawData(data.root, data.files, blind)).status == "note"


# --- faults ---


def test_counts_in_and_out(look) -> None:
    found = look()
    assert found["in and out"].status == "ok"
    assert found["in and out"].detail.startswith(
        "3 episodes, 150 steps, 1 tasks in 1 files; training reads 3 episodes, 147"
    )
    assert "before the first action of 3 episodes" in found["in and out"].detail
    assert found["claims"].status == "ok" and found["success"].status == "note"


def test_a_bad_episode_is_named_and_does_not_stop_the_rest(look) -> None:
    def spoil(data: h5py.Group) -> None:
        data["demo_1/actions"][3, 2] = np.nan

    found = look(spoil)
    assert (
        found["NaN, infinity"].status == "broken"
        and "demo_1 actions at 1 steps, first 3" in found["NaN, infinity"].detail
    )
    assert "training reads 2 episodes" in found["in and out"].detail
    assert "contain NaN at step 3" in found["in and out"].detail and "on_bad_episode skip" in found["in and out"].advice


def test_an_episode_without_actions(look) -> None:
    def spoil(data: h5py.Group) -> None:
        del data["demo_1/actions"]

    found = look(spoil)
    assert found["in and out"].status == "broken" and "demo_1" in found["in and out"].detail


def test_links_to_other_files_are_not_followed(look, tmp_path: Path) -> None:
    write_task(tmp_path / "elsewhere")

    def spoil(data: h5py.Group) -> None:
        for name in ("actions", "obs/agentview_rgb"):
            demo = "demo_1" if name == "actions" else "demo_2"
            del data[f"{demo}/{name}"]
            data[f"{demo}/{name}"] = h5py.ExternalLink(
                str(tmp_path / "elsewhere" / f"{TASK}_demo.hdf5"), f"data/demo_0/{name}"
            )

    found = look(spoil)["in and out"]
    assert found.status == "broken" and found.detail.count("is a link to another file, which is not followed") >= 2


def test_claims_and_lengths(look) -> None:
    def spoil(data: h5py.Group) -> None:
        data["demo_0"].attrs["num_samples"] = 99
        data.attrs["num_demos"] = 7

    found = look(spoil, lengths=(40, 50, 60, 400))
    assert "demo_0 says 99 steps and has 40" in found["claims"].detail
    assert "says 7 demonstrations and has 4" in found["claims"].detail
    assert "demo_3 (400)" in found["lengths"].detail and found["lengths"].status == "warning"


def test_constant_dimensions_and_range(look) -> None:
    def spoil(data: h5py.Group) -> None:
        for demo in data:
            data[demo]["actions"][:, 3] = 0.0
            data[demo]["actions"][:, 0] *= 30

    found = look(spoil)
    assert found["constant"].status == "warning" and "action rotation x (0)" in found["constant"].detail
    assert found["range"].status == "warning" and "clips them to [-1, 1]" in found["range"].advice


def test_metres_are_suspected(look) -> None:
    def spoil(data: h5py.Group) -> None:
        for demo in data:
            data[demo]["actions"][:, :3] *= 0.03

    assert "divided by 0.05" in look(spoil)["range"].advice


def test_tails(look) -> None:
    def spoil(data: h5py.Group) -> None:
        for demo in data:
            data[demo]["actions"][:, 1] *= 0.01
        data["demo_0/actions"][5, 1] = 1.0

    found = look(spoil)["outside q01-q99"]
    assert found.status == "warning" and "far beyond: y by" in found.detail


def test_other_robots(look) -> None:
    found = look(lambda data: [put(data[demo], "actions", data[demo]["actions"][:, :6]) for demo in list(data)])
    assert found["range"].status == "broken" and "have 6 dimensions, not 7" in found["range"].detail


def test_noops_and_repeats(look) -> None:
    def spoil(data: h5py.Group) -> None:
        for demo in data:
            data[demo]["actions"][10:35, :6] = 0.0

    found = look(spoil)
    assert found["no-ops"].status == "warning" and "--dataset.filter_noops true" in found["no-ops"].advice
    assert found["duplicates"].status in ("ok", "warning")


def test_an_episode_that_is_there_twice(look) -> None:
    found = look(lambda data: data.copy("demo_0", "demo_9"))["duplicates"]
    assert found.status == "warning" and f"{TASK}_demo.hdf5 demo_9 = {TASK}_demo.hdf5 demo_0" in found.detail


def test_failures_and_pictures(look) -> None:
    def spoil(data: h5py.Group) -> None:
        for demo in data:
            data[demo]["rewards"] = np.zeros(len(data[demo]["actions"]))
        images = data["demo_0/obs/agentview_rgb"]
        images[:10] = 0
        frozen = data["demo_1/obs/eye_in_hand_rgb"]
        frozen[:] = frozen[:1]

    found = look(spoil)
    assert found["success"].status == "warning" and "0 of 3" in found["success"].detail
    assert "demo_0 agentview (10 of 40)" in found["empty"].detail
    assert "demo_1 eye_in_hand (49 of 50)" in found["frozen"].detail


def test_missing_cameras_and_other_sizes(look, tmp_path: Path) -> None:
    found = look(lambda data: data.__delitem__("demo_1/obs/eye_in_hand_rgb"))
    assert found["cameras"].status == "broken" and "demo_1 (eye_in_hand)" in found["cameras"].detail


def test_instructions(look, tmp_path: Path) -> None:
    write_task(tmp_path / "data", "another_task", lengths=(40,))
    found = look()["instructions"]  # the same attribute in both
    assert found.status == "note" and "pick the bowl" in found.detail
    assert look(task="word", official=False)["instructions"].status in ("broken", "note")


# --- what can't be examined ---


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "path: no such file or folder: "),
        (lambda folder: folder.mkdir(), "path: must hold demonstrations in LIBERO's layout"),
        (lambda folder: [folder.mkdir(), (folder / "a.hdf5").write_text("no")], "path: no demonstration in "),
    ],
)
def test_nothing_to_examine_is_one_line(tmp_path: Path, capsys, make, message: str) -> None:
    make(tmp_path / "data")
    assert main(["data", "doctor", str(tmp_path / "data")]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {message}") and line.count("\n") == 1


def test_no_path_and_a_sheet_that_cannot_be_written(tmp_path: Path, capsys) -> None:
    assert main(["data", "doctor"]) == 2
    assert "path: must name a folder or file with demonstrations" in capsys.readouterr().err
    write_task(tmp_path / "data")
    (tmp_path / "file").touch()
    assert main(["data", "doctor", str(tmp_path / "data"), "--output", str(tmp_path / "file" / "a.png")]) == 2
    assert "error: output: can't write " in capsys.readouterr().err
