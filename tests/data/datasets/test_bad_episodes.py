"""Bad input: one line that names file, demonstration and what is wrong; or an episode that is skipped and counted."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from libero_files import TASK, open_libero, write_task

from vla.data.errors import BadEpisode

FILE = f"{TASK}_demo.hdf5"


def drop(name: str) -> Callable[[h5py.Group], None]:
    def damage(demo: h5py.Group) -> None:
        del demo[name]

    return damage


def replace(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.Group], None]:
    def damage(demo: h5py.Group) -> None:
        values = change(demo[name][()])
        del demo[name]
        demo[name] = values

    return damage


def set_value(name: str, value: float, step: int = 7) -> Callable[[h5py.Group], None]:
    def damage(demo: h5py.Group) -> None:
        demo[name][step, 2] = value

    return damage


def rename(old: str, new: str) -> Callable[[h5py.Group], None]:
    return lambda demo: demo.move(old, new)


DAMAGES = {
    "NaN action": (set_value("actions", np.nan), "actions contain NaN at step 7"),
    "infinite action": (set_value("actions", np.inf, 0), "actions contain infinity at step 0"),
    "NaN state": (set_value("obs/ee_ori", np.nan), "obs/ee_ori contain NaN at step 7"),
    "no actions": (drop("actions"), "no 'actions'"),
    "no robot state": (drop("obs/gripper_states"), "no 'obs/gripper_states'"),
    "no observations": (drop("obs"), "no camera 'agentview' .*; cameras there: none"),
    "no camera": (
        rename("obs/agentview_rgb", "obs/frontview_rgb"), "no camera 'agentview' .*; cameras there: eye_in_hand, frontv"
    ),
    "six dimensions": (replace("actions", lambda a: a[:, :6]), r"'actions' must be \[T, 7\], got \[9, 6\]"),
    "actions are text": (replace("actions", lambda a: a.astype("S4")), "'actions' must be numbers"),
    "actions are flat": (replace("actions", lambda a: a[:, 0]), r"'actions' must be \[T, 7\], got \[9\]"),
    "missing frames": (
        replace("obs/agentview_rgb", lambda a: a[:-1]), "'obs/agentview_rgb' has 8 steps, actions have 9"
    ),
    "missing states": (replace("obs/ee_pos", lambda a: a[1:]), "'obs/ee_pos' has 8 steps, actions have 9"),
    "float images": (
        replace("obs/eye_in_hand_rgb", lambda a: a / 255), r"'obs/eye_in_hand_rgb' must be uint8 \[T, H, W, 3\], got fl"
    ),
    "channels first": (replace("obs/agentview_rgb", lambda a: a.transpose(0, 3, 1, 2)), "must be uint8"),
    "cameras of two sizes": (replace("obs/agentview_rgb", lambda a: a[:, ::2]), "images of different sizes"),
    "no steps": (replace("actions", lambda a: a[:0]), "has no steps"),
    "one step": (
        lambda demo: [
            replace(name, lambda a: a[:1])(demo)
            for name in ("actions", *(f"obs/{key}" for key in list(demo["obs"])))
        ],
        "none of its 1 steps can be used",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_episode(edit: Callable, name: str) -> None:
    damage, message = DAMAGES[name]
    root = edit(damage)
    with pytest.raises(BadEpisode, match=rf"{root}/{FILE}: demo_1: .*{message}") as caught:
        open_libero(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_episode_is_skipped_and_named(edit: Callable, name: str, capfd: pytest.CaptureFixture) -> None:
    train = open_libero(edit(DAMAGES[name][0]), on_bad_episode="skip").train
    assert [episode.demo for episode in train.episodes] == ["demo_0", "demo_2"]
    assert len(train.skipped) == 1
    assert f"{FILE}: demo_1:" in train.skipped[0]
    assert "skipped 1 bad episodes" in "".join(capfd.readouterr())
    assert len([train[index] for index in range(len(train))]) == 11 + 14


def test_other_image_size_than_the_first_episode(edit: Callable) -> None:
    def half(demo: h5py.Group) -> None:
        for camera in ("agentview", "eye_in_hand"):
            replace(f"obs/{camera}_rgb", lambda a: a[:, ::2])(demo)

    root = edit(half)
    with pytest.raises(BadEpisode, match=r"demo_1: images are 4x10, those of .* demo_0 are 8x10"):
        open_libero(root)
    assert len(open_libero(root, on_bad_episode="skip").train.episodes) == 2


class TestFiles:
    def test_truncated(self, tmp_path: Path) -> None:
        path = write_task(tmp_path)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(BadEpisode, match=rf"{FILE}: can't be opened as HDF5: .*truncated"):
            open_libero(tmp_path)

    def test_not_hdf5(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_text("hello")
        with pytest.raises(BadEpisode, match="can't be opened as HDF5"):
            open_libero(tmp_path)

    def test_bad_file_is_skipped(self, tmp_path: Path) -> None:
        write_task(tmp_path)
        (tmp_path / "a_bad_demo.hdf5").write_text("hello")
        train = open_libero(tmp_path, on_bad_episode="skip").train
        assert len(train.episodes) == 3
        assert len(train.skipped) == 1

    def test_all_bad(self, tmp_path: Path) -> None:
        (tmp_path / FILE).write_text("hello")
        with pytest.raises(ValueError, match=r"dataset.root: no usable episode in .*, 1 skipped: .*can't be opened"):
            open_libero(tmp_path, on_bad_episode="skip")

    def test_no_demonstrations(self, tmp_path: Path) -> None:
        write_task(tmp_path, lengths=())
        with pytest.raises(BadEpisode, match=f"{FILE}: no demonstrations"):
            open_libero(tmp_path)

    def test_no_data_group(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / FILE, "w") as file:
            file["other"] = 1
        with pytest.raises(BadEpisode, match=f"{FILE}: no group 'data'"):
            open_libero(tmp_path)

    def test_no_instruction(self, tmp_path: Path) -> None:
        write_task(tmp_path, official=False).rename(tmp_path / "data.hdf5")
        with pytest.raises(BadEpisode, match="data.hdf5: no instruction"):
            open_libero(tmp_path)

    def test_corrupt_chunk_is_found_on_reading(self, tmp_path: Path) -> None:
        path = write_task(tmp_path, image_options={"compression": "gzip", "chunks": (4, 8, 10, 3)})
        with h5py.File(path) as file:
            chunk = file["data/demo_0/obs/agentview_rgb"].id.get_chunk_info(1)
        with open(path, "r+b") as raw:
            raw.seek(chunk.byte_offset)
            raw.write(b"x" * chunk.size)
        train = open_libero(tmp_path).train
        assert train[0]["images"].shape == (2, 3, 8, 10)
        with pytest.raises(BadEpisode, match=rf"{FILE}: demo_0: agentview frames 5 to 5 can't be read: ") as caught:
            train[5]
        assert "\n" not in str(caught.value)


class TestFolders:
    def test_none_given(self) -> None:
        with pytest.raises(ValueError, match=r"dataset.root: must name the folder"):
            open_libero(None)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=f"dataset.root: no such folder: {tmp_path}/nothing"):
            open_libero(tmp_path / "nothing")

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"dataset.root: no \*.hdf5 files in"):
            open_libero(tmp_path)

    def test_unknown_task(self, libero_root: Path) -> None:
        with pytest.raises(ValueError, match=r"dataset.tasks: no file for 'open_a_drawer'.*did you mean 'open_the_dr"):
            open_libero(libero_root, tasks=("open_a_drawer",))
        with pytest.raises(ValueError, match=r"dataset.tasks: .*; there are open_the_drawer, put_the"):
            open_libero(libero_root, tasks=("xyz",))

    def test_action_dim_of_another_robot(self, libero_root: Path) -> None:
        with pytest.raises(ValueError, match=r"model.processor.action_dim: .* 7 dimensions, got 8"):
            open_libero(libero_root, {"action_dim": 8})

    def test_sub_folders_are_searched(self, tmp_path: Path) -> None:
        write_task(tmp_path / "libero_object")
        train = open_libero(tmp_path).train
        assert train.episodes[0].file == f"libero_object/{FILE}"
        assert train[0]["images"].shape == (2, 3, 8, 10)
