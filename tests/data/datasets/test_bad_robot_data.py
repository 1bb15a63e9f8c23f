"""Damaged and forged datasets in LeRobot's layout and RLDS: one line that names the file, or left out and counted."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from robot_files import shipped, write_lerobot_v21, write_lerobot_v30, write_rlds

from vla.conf.datasets import LeRobotConfig, RLDSConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.data.datasets import optional
from vla.data.datasets.lerobot_meta import fill
from vla.data.datasets.rlds_index import Wanted, read_index
from vla.data.materialize import get_datasets

PARQUET = "data/chunk-000/episode_000001.parquet"
VIDEO = "videos/chunk-000/observation.images.wrist_image/episode_000001.mp4"
MODEL = VGGTTinyConfig(processor=ProcessorConfig(image_size=28, proprio=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """A dataset of three short episodes in each layout."""
    items, folder = shipped(1, 3, 5), tmp_path_factory.mktemp("made")
    return {
        "images": write_lerobot_v21(folder / "images", items),
        "beside": write_lerobot_v21(folder / "beside", items, "beside"),
        "video": write_lerobot_v21(folder / "video", items, "video"),
        "v3": write_lerobot_v30(folder / "v3", items, "video"),
        "rlds": write_rlds(folder / "rlds", items, shards=3),
    }


@pytest.fixture
def damaged(made, tmp_path: Path) -> Callable[..., Path]:
    """A copy of one of them, changed."""
    import shutil

    def change(name: str, damage: Callable[[Path], object]) -> Path:
        shutil.copytree(made[name], tmp_path / "data", ignore=shutil.ignore_patterns(".*"))
        damage(tmp_path / "data")
        return tmp_path / "data"

    return change


def edit_json(name: str, **values: object) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        path = root / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def edit_column(column: str, change: Callable[[list], list], kind: pa.DataType | None = None) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        table = pq.read_table(root / PARQUET)
        values = change(table.column(column).to_pylist())
        array = pa.array(values, kind or table.schema.field(column).type)
        pq.write_table(table.set_column(table.column_names.index(column), column, array), root / PARQUET)

    return apply


def cut(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-200])


def removed(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def open_data(root: Path, **options) -> object:
    kind = LeRobotConfig if (root / "meta").exists() else RLDSConfig
    return get_datasets(kind(root=root, preset="libero", validation_episodes=0, **options), MODEL)


BAD_DESCRIPTIONS = [
    (edit_json("meta/info.json", codebase_version="v1.6"), "must be one of v2.0, v2.1, v3.0, got 'v1.6'"),
    (edit_json("meta/info.json", fps=0), "fps and chunks_size must be > 0"),
    (edit_json("meta/info.json", data_path="../{episode_index:06d}.parquet"), "leads out of the dataset"),
    (edit_json("meta/info.json", data_path="/etc/passwd"), "leads out of the dataset"),
    (edit_json("meta/info.json", data_path="{episode_index.__class__}"), "asks for 'episode_index.__class__'"),
    (edit_json("meta/info.json", data_path="{episode_index:0999999999d}"), "asks for 'episode_index'"),
    (lambda root: (root / "meta/info.json").write_text("{"), "can't be read as JSON"),
    (lambda root: (root / "meta/episodes.jsonl").write_text('{"length": 3}\n'), "not a description of LeRobot's v2.1"),
    (lambda root: (root / "meta/episodes.jsonl").write_text("[" * 200_000), "not a description of LeRobot's v2.1"),
    (edit_json("meta/info.json", chunks_size=float("inf")), "not a description of LeRobot's v2.1"),
    (removed("meta/tasks.jsonl"), "not a description of LeRobot's v2.1"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), BAD_DESCRIPTIONS)
def test_a_bad_description_is_one_line(damage, words: str, damaged) -> None:
    with pytest.raises(ValueError) as raised:
        open_data(damaged("images", damage))
    assert words in str(raised.value) and "\n" not in str(raised.value) and "meta" in str(raised.value)


def forged_path(path: str) -> Callable[[Path], None]:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values: Callable[[list], list] = lambda rows: [{"bytes": None, "path": path} for _ in rows]  # noqa: E731
    return edit_column("observation.images.image", values, kind)


BAD_EPISODES = [
    ("images", cut(PARQUET), "episode_000001.parquet: can't be read"),
    ("images", removed(PARQUET), "episode_000001.parquet: can't be read: there is no such file"),
    ("images", edit_column("action", lambda rows: [[float("nan")] * 7] + rows[1:]), "actions contain NaN at step 0"),
    ("images", edit_column("action", lambda rows: [row[:6] for row in rows]), "actions have 6 dimensions, expected 7"),
    ("images", edit_column("action", lambda rows: [rows[0][:6], *rows[1:]]), "rows of different lengths"),
    ("images", edit_column("action", lambda rows: [None, *rows[1:]]), "'action' has rows without a value"),
    ("images", edit_column("task_index", lambda rows: [9] * len(rows)), "task 9 is not among the tasks"),
    ("images", edit_column("timestamp", lambda rows: rows[::-1]), "timestamps do not increase"),
    ("images", edit_column("episode_index", lambda rows: [5] * len(rows)), "has 0 steps, the description says 6"),
    ("video", removed(VIDEO), "no video 'videos/chunk-000/observation.images.wrist_image/episode_000001.mp4'"),
    ("video", cut(VIDEO), "episode_000001.mp4'"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "damage", "words"), BAD_EPISODES)
def test_a_bad_episode_is_named_or_left_out(layout: str, damage, words: str, damaged) -> None:
    root = damaged(layout, damage)
    with pytest.raises(ValueError) as raised:
        open_data(root)
    message = str(raised.value)
    assert words in message and PARQUET in message and "\n" not in message
    data = open_data(root, on_bad_episode="skip").train
    assert len(data.episodes) == 2 and len(data.skipped) == 1 and words in data.skipped[0]


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/hostname", "images/nothing.png", ""])
def test_pictures_outside_of_the_dataset_are_not_read(path: str, damaged) -> None:
    data = open_data(damaged("images", forged_path(path))).train
    index = next(i for i in range(len(data)) if "episode_000001" in data.sample_label(i))
    with pytest.raises(ValueError, match=re.escape("episode_000001: observation.images.image frames")) as raised:
        data[index]
    assert "\n" not in str(raised.value)


def test_a_damaged_picture_is_named_when_it_is_read(damaged) -> None:
    picture = "images/observation.images.image/episode_000001/frame_000000.png"
    data = open_data(damaged("beside", cut(picture))).train
    with pytest.raises(ValueError, match=r"episode_000001: observation.images.image frames 0 to 0 can't be read"):
        [data[i] for i in range(len(data)) if "episode_000001" in data.sample_label(i)]


def test_a_video_that_is_too_short_is_named(damaged) -> None:
    from robot_files import write_mp4

    path = "videos/observation.images.image/chunk-000/file-000.mp4"
    frames = shipped(1, 1, 3)[0].frames["agentview"]
    root = damaged("v3", lambda root: write_mp4(root / path, frames))
    with pytest.raises(ValueError, match=r"episode_000000: 'videos/.*file-000.mp4' has 3 frames, too few"):
        open_data(root)


def shard(root: Path, number: int) -> Path:
    return next(root.rglob(f"*tfrecord-{number:05d}-*"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: shard(root, 1).write_bytes(shard(root, 1).read_bytes()[:-9]), "ends within the record at byte 0"),
        (lambda root: shard(root, 1).unlink(), "can't be read: No such file"),
        (lambda root: flip(shard(root, 1)), "the checksum of the record at byte 0 is wrong"),
    ],
)
def test_a_bad_shard_is_named_or_left_out(damage, words: str, damaged) -> None:
    root = damaged("rlds", damage)
    with pytest.raises(ValueError) as raised:
        open_data(root)
    assert words in str(raised.value) and "-00001-of-00003" in str(raised.value) and "\n" not in str(raised.value)
    data = open_data(root, on_bad_episode="skip").train
    assert len(data.episodes) == 2 and len(data.skipped) == 1


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_the_index_is_made_once_and_again_after_a_change(damaged, monkeypatch) -> None:
    path = shard(damaged("rlds", lambda root: None), 0)
    wanted = Wanted(("steps/observation/image",), ("steps/action",), "steps/language_instruction")
    (first,) = read_index(path, wanted)
    monkeypatch.setattr("vla.data.datasets.rlds_index.records", None)  # nothing is read again
    (again,) = read_index(path, wanted)
    assert np.array_equal(first.numbers["steps/action"], again.numbers["steps/action"]) and first.texts == again.texts
    assert np.array_equal(first.spans["steps/observation/image"], again.spans["steps/observation/image"])
    assert first.sizes == again.sizes and not list(path.parent.glob("*.tmp"))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(TypeError):
        read_index(path, wanted)


def test_an_index_that_holds_pickled_objects_is_not_read(damaged) -> None:
    path = shard(damaged("rlds", lambda root: None), 0)
    wanted = Wanted(("steps/observation/image",), ("steps/action",), "steps/language_instruction")
    read_index(path, wanted)
    (index,) = path.parent.glob(".*.index.npz")
    np.savez(index.open("wb"), head=np.array([object()], dtype=object))
    assert len(read_index(path, wanted)) == 1  # made anew


@pytest.mark.parametrize(("layout", "extra"), [("images", "lerobot"), ("rlds", "rlds")])
def test_without_the_packages_it_says_what_to_install(layout: str, extra: str, made, monkeypatch) -> None:
    def missing(module: str) -> None:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(optional, "import_module", missing)
    with pytest.raises(ValueError) as raised:
        open_data(made[layout])
    assert f'pip install ".[{extra}]"' in str(raised.value) and "\n" not in str(raised.value)


def test_templates_are_filled_with_known_fields_only() -> None:
    assert fill("a/{n:03d}/{key}.mp4", {"n": 7, "key": "b.c"}) == "a/007/b.c.mp4"
    for template in ("{m}", "{n!r}", "{n:>9}", "{n}/../../{n}", "{n[0]}"):
        with pytest.raises(ValueError):
            fill(template, {"n": 1})
