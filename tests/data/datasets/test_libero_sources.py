"""Which actions are learned, and by what an episode is known again."""

import h5py
import numpy as np
import pytest
from libero_files import open_libero, write_task

from vla.data.errors import BadEpisode

PLAIN = {"processor": None, "window": {"normalization": "none"}}


def add_expert_actions(path, offset: float = 0.05) -> None:
    with h5py.File(path, "a") as file:
        for group in file["data"].values():
            group["expert_actions"] = group["actions"][()] * 0.5 + offset


def test_the_actions_that_were_asked_for(tmp_path):
    add_expert_actions(write_task(tmp_path))
    executed, asked = (
        open_libero(tmp_path, action_source=source, **PLAIN).train[3]["actions"]
        for source in ("actions", "expert_actions")
    )
    np.testing.assert_allclose(asked[:, :6], executed[:, :6] * 0.5 + 0.05, rtol=1e-5, atol=1e-6)


def test_files_without_them_are_named(tmp_path):
    path = write_task(tmp_path)
    with pytest.raises(BadEpisode, match=f"{path.name}: demo_0: no 'expert_actions'"):
        open_libero(tmp_path, action_source="expert_actions")


def test_an_episode_is_known_again_in_other_data(tmp_path):
    """By its content: not by its file's name, its number, or what lies beside it."""
    write_task(tmp_path / "one", lengths=(12, 9))
    write_task(tmp_path / "two" / "more", task="another_task", lengths=(7, 12), demos=(3, 5))
    one, two = (open_libero(tmp_path / name).train for name in ("one", "two"))
    # write_task numbers the pictures by position, so that both second episodes differ from both first ones
    assert one.locate(13)[1:] == (2, 8) and two.locate(7)[1:] == (1, 11)  # the first action has no observation
    keys = {name: {data.locate(i)[0] for i in range(len(data))} for name, data in {"one": one, "two": two}.items()}
    assert len(keys["one"]) == len(keys["two"]) == 2 and not keys["one"] & keys["two"]

    write_task(tmp_path / "three", task="third_task", lengths=(12, 9, 15))
    three = open_libero(tmp_path / "three").train
    assert [three.locate(i) for i in range(len(one))] == [one.locate(i) for i in range(len(one))]


def test_other_frames_of_the_same_length_are_another_episode(tmp_path):
    path = write_task(tmp_path, lengths=(12,))
    before = open_libero(tmp_path).train.locate(0)[0]
    assert open_libero(tmp_path, filter_noops=True).train.locate(0)[0] == before  # nothing was filtered
    assert open_libero(tmp_path, window={"cameras": ("agentview",)}).train.locate(0)[0] != before
    with h5py.File(path, "a") as file:
        file["data/demo_0/actions"][5, 0] += 0.1
    assert open_libero(tmp_path).train.locate(0)[0] != before


def test_images_stay_on_disk_when_nobody_needs_them(tmp_path):
    write_task(tmp_path)
    data = open_libero(tmp_path, window={"num_frames": 2}).train
    with_images = data[4]
    data.images_needed = False
    without = data[4]
    assert with_images["images"].shape == (4, 3, 8, 10) and without["images"].shape == (4, 3, 0, 0)
    np.testing.assert_array_equal(with_images["actions"], without["actions"])
    assert data.read_counters["raw"] == 4
