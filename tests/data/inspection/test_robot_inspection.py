"""`vla data doctor` on LeRobot's layout and RLDS: counts in are counts out, and what has to be stated is said."""

import json
from pathlib import Path

import pytest
from PIL import Image
from robot_files import shipped, write_lerobot_v21, write_lerobot_v30, write_rlds

from vla.commands.main import main

WRITE = {
    "images": lambda path, items: write_lerobot_v21(path, items),
    "video": lambda path, items: write_lerobot_v21(path, items, "video"),
    "v3-images": lambda path, items: write_lerobot_v30(path, items, "embedded"),
    "v3": lambda path, items: write_lerobot_v30(path, items, "video"),
    "rlds": write_rlds,
}


@pytest.fixture(scope="module")
def items() -> list:
    return shipped(2, 2, 20, every=4)


def examine(root: Path, capsys, *options: str) -> tuple[int, dict[str, dict]]:
    code = main(["data", "doctor", str(root), "--output", str(root.parent / "sheet.png"), "--json", *options])
    return code, {item["name"]: item for item in json.loads(capsys.readouterr().out)["findings"]}


@pytest.mark.parametrize("layout", WRITE)
def test_counts_in_are_counts_out(layout: str, items, tmp_path: Path, capsys) -> None:
    code, found = examine(WRITE[layout](tmp_path / "data", items), capsys)
    assert code == 0
    steps = sum(len(item.actions) for item in items)
    counted = found["in and out"]
    assert counted["status"] == "ok" and counted["detail"].startswith(f"4 episodes, {steps:,} steps, 2 tasks in ")
    assert counted["detail"].endswith(f"training reads 4 episodes, {steps:,} samples")
    assert found["claims"]["status"] == found["NaN, infinity"]["status"] == found["cameras"]["status"] == "ok"
    assert "the higher one closes" in found["gripper"]["detail"]
    assert found["gripper"]["advice"] == (
        "--dataset.conventions.gripper_open -1 --dataset.conventions.gripper_closed 1"
    )
    assert "camera_orientation" in found["orientation"]["advice"] and "reading" not in found
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.height > 2 * 230


def test_what_is_wrong_is_said(items, tmp_path: Path, capsys) -> None:
    root = write_lerobot_v21(tmp_path / "data", items, "beside")
    (root / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1")
    picture = root / "images/observation.images.image/episode_000000/frame_000003.png"
    picture.write_bytes(picture.read_bytes()[:99])
    info = root / "meta/info.json"
    info.write_text(info.read_text().replace('"total_episodes": 4', '"total_episodes": 5'))
    code, found = examine(root, capsys)
    assert code == 1
    assert "training reads 3 episodes" in found["in and out"]["detail"]
    assert found["in and out"]["detail"].count("episode_000001.parquet") == 1  # told once
    assert found["claims"]["detail"] == "meta/info.json says 5 episodes, the list of episodes has 4"
    assert found["reading"]["status"] == "broken" and "episode_000000" in found["reading"]["detail"]


def test_fields_of_other_names_are_named(items, tmp_path: Path, capsys) -> None:
    root = write_lerobot_v21(tmp_path / "data", items[:1])
    code, found = examine(root, capsys, "--action_keys", "observation.state")
    assert code == 0 and "'motor 7'" in found["gripper"]["detail"]
    assert main(["data", "doctor", str(root), "--action_keys", "motion"]) == 2
    assert capsys.readouterr().err == (
        "error: action_keys: no 'motion'; there are observation.state, action; did you mean 'action'?\n"
    )
