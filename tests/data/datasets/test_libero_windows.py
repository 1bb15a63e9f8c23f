"""Windows of LIBERO episodes: history, chunks, the two alignments, no-ops, splits and instructions."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from libero_files import TASK, episode_actions, image_tags, open_libero, write_task

from vla.data.datasets.episodes import kept_steps
from vla.data.datasets.libero_format import instruction_from_name


def stored(root: Path, name: str, demo: str = "demo_0", task: str = TASK) -> np.ndarray:
    with h5py.File(root / f"{task}_demo.hdf5") as file:
        return file[f"data/{demo}/{name}"][()]


class TestWindow:
    def test_shapes_and_types(self, libero_root: Path) -> None:
        train = open_libero(libero_root, {"num_frames": 3}).train
        sample = train[20]
        assert len(train) == 2 * (12 + 9 + 15)
        assert (sample["images"].shape, sample["images"].dtype) == ((6, 3, 8, 10), np.uint8)
        assert (sample["actions"].shape, sample["actions"].dtype) == ((4, 7), np.float32)
        assert (sample["proprio"].shape, sample["proprio"].dtype) == ((8,), np.float32)
        assert sample["action_mask"].dtype == bool
        assert sample["instruction"] == "pick the bowl"
        assert train.sample_label(20) == "open_the_drawer_demo.hdf5 demo_1 t=8"

    def test_images_are_those_of_the_file(self, libero_root: Path) -> None:
        train = open_libero(libero_root, tasks=(TASK,)).train
        images = train[12 + 5]["images"]
        for number, camera in enumerate(("agentview", "eye_in_hand")):
            expected = stored(libero_root, f"obs/{camera}_rgb", "demo_1")[5]
            assert np.array_equal(images[number], expected.transpose(2, 0, 1))

    def test_history_goes_backward_and_stops_at_the_episode(self, libero_root: Path) -> None:
        train = open_libero(libero_root, {"num_frames": 3, "frame_stride": 2}, tasks=(TASK,)).train
        first = train.episodes[1].first_sample
        for step in (0, 1, 3, 4, 7):
            rows = [max(step - 4, 0), max(step - 2, 0), step]
            expected = [[1, row, camera] for row in rows for camera in (1, 2)]
            assert image_tags(train[first + step]["images"]) == expected

    def test_order_of_cameras_is_the_models(self, libero_root: Path) -> None:
        train = open_libero(libero_root, {"cameras": ("eye_in_hand",)}, tasks=(TASK,)).train
        assert image_tags(train[3]["images"]) == [[0, 3, 2]]
        window = {"cameras": ("eye_in_hand", "agentview"), "num_frames": 2}
        train = open_libero(libero_root, window, tasks=(TASK,)).train
        assert image_tags(train[3]["images"]) == [[0, 2, 2], [0, 2, 1], [0, 3, 2], [0, 3, 1]]

    def test_actions_look_ahead_and_end_masked(self, libero_root: Path) -> None:
        train = open_libero(libero_root, {"normalization": "none"}, chunk=5, tasks=(TASK,)).train
        actions = episode_actions(1, 9).astype(np.float32)
        first = train.episodes[1].first_sample
        for step in range(9):
            sample = train[first + step]
            inside = min(5, 9 - step)
            assert sample["action_mask"].tolist() == [True] * inside + [False] * (5 - inside)
            assert np.array_equal(sample["actions"][:inside], actions[step : step + inside])
            assert (sample["actions"][inside:] == actions[-1]).all()

    def test_proprio_is_that_of_the_step(self, libero_root: Path) -> None:
        train = open_libero(libero_root, {"normalization": "none"}, tasks=(TASK,)).train
        keys = ("obs/ee_pos", "obs/ee_ori", "obs/gripper_states")
        expected = np.concatenate([stored(libero_root, key)[7] for key in keys]).astype(np.float32)
        assert np.array_equal(train[7]["proprio"], expected)
        assert "proprio" not in open_libero(libero_root, {"proprio": False}).train[0]

    def test_numbers_out_of_range(self, libero_root: Path) -> None:
        train = open_libero(libero_root).train
        for index in (-1, len(train)):
            with pytest.raises(IndexError, match="no sample"):
                train[index]


class TestAlignment:
    """Row t of an official file was observed after action t."""

    @pytest.mark.parametrize("setting", ["auto", "after"])
    def test_after(self, tmp_path: Path, setting: str) -> None:
        write_task(tmp_path, lengths=(6, 5))
        window = {"num_frames": 2, "normalization": "none"}
        train = open_libero(tmp_path, window, chunk=3, observation_alignment=setting).train
        assert [episode.length for episode in train.episodes] == [5, 4]  # nothing was seen before the first action
        actions = episode_actions(0, 6).astype(np.float32)
        for sample_number, action_row in enumerate(range(1, 6)):
            sample = train[sample_number]
            newest = action_row - 1
            rows = [max(newest - 1, 0), newest]
            assert image_tags(sample["images"]) == [[0, row, camera] for row in rows for camera in (1, 2)]
            assert np.array_equal(sample["actions"][0], actions[action_row])
            assert np.array_equal(sample["proprio"][:3], stored(tmp_path, "obs/ee_pos")[newest].astype(np.float32))
        assert train[4]["action_mask"].tolist() == [True, False, False]
        assert np.array_equal(train.episode_actions(0), actions[1:])

    def test_file_can_say_before(self, tmp_path: Path) -> None:
        write_task(tmp_path, attributes={"obs_alignment": "before_action"})
        train = open_libero(tmp_path).train
        assert train.episodes[0].length == 12
        assert image_tags(train[0]["images"])[0] == [0, 0, 1]

    def test_regenerated_files_have_no_attributes_and_gaps(self, tmp_path: Path) -> None:
        write_task(tmp_path, official=False, demos=(2, 10, 0))
        train = open_libero(tmp_path).train
        assert [(e.demo, e.length) for e in train.episodes] == [("demo_0", 15), ("demo_2", 12), ("demo_10", 9)]
        assert train[0]["instruction"] == "put the bowl on the plate"
        assert image_tags(train[0]["images"]) == [[2, 0, 1], [2, 0, 2]]

    def test_setting_wins_over_the_file(self, tmp_path: Path) -> None:
        write_task(tmp_path, attributes={"obs_alignment": "before_action"})
        assert open_libero(tmp_path, observation_alignment="after").train.episodes[0].length == 11


class TestNoops:
    def actions(self) -> np.ndarray:
        actions = np.zeros((8, 7))
        actions[:, 6] = [-1, -1, -1, 1, 1, 1, -1, -1]
        actions[2, 0] = actions[5, 1] = 0.5
        actions[7, 2] = 1e-5
        return actions

    def test_rule(self) -> None:
        """Kept: a move (2, 5) and a change of the gripper against the last kept step (3, 6)."""
        assert kept_steps(self.actions(), True).tolist() == [2, 3, 5, 6]
        assert kept_steps(self.actions(), False).tolist() == list(range(8))

    @pytest.mark.parametrize(("alignment", "rows"), [("before", [2, 3, 5, 6]), ("after", [1, 2, 4, 5])])
    def test_windows_step_over_noops(self, edit: Callable, alignment: str, rows: list[int]) -> None:
        def set_actions(demo: h5py.Group) -> None:
            demo["actions"][()] = np.concatenate([self.actions(), np.zeros((1, 7))])
            demo["actions"][8, 6] = -1

        root = edit(set_actions)
        window = {"num_frames": 2, "cameras": ("agentview",), "normalization": "none"}
        train = open_libero(root, window, filter_noops=True, observation_alignment=alignment).train
        first = train.episodes[1].first_sample
        assert train.episodes[1].length == 4
        seen = [image_tags(train[first + step]["images"]) for step in range(4)]
        assert seen == [[[1, rows[max(k - 1, 0)], 1], [1, rows[k], 1]] for k in range(4)]
        assert np.array_equal(train[first]["actions"], self.actions()[[2, 3, 5, 6]].astype(np.float32))


@pytest.mark.parametrize("alignment", ["before", "after"])
def test_what_was_done_wrong_on_purpose_is_left_out(edit: Callable, alignment: str) -> None:
    root = edit(lambda demo: demo.attrs.update(learn_from=5))
    window = {"num_frames": 2, "cameras": ("agentview",), "normalization": "none"}
    train = open_libero(root, window, observation_alignment=alignment).train
    ref = train.episodes[1]
    row = 5 if alignment == "before" else 4
    assert ref.length == 4
    assert image_tags(train[ref.first_sample]["images"]) == [[1, row, 1], [1, row, 1]], "history does not reach into it"
    assert np.array_equal(train.episode_actions(1), episode_actions(1, 9)[5:].astype(np.float32))
    assert image_tags(train[ref.first_sample + 1]["images"]) == [[1, row, 1], [1, row + 1, 1]]


class TestSplit:
    def test_last_episodes_of_each_task_are_held_out(self, libero_root: Path) -> None:
        datasets = open_libero(libero_root, validation_episodes=1)
        assert [(e.task, e.demo) for e in datasets.train.episodes] == [
            ("open_the_drawer", "demo_0"), ("open_the_drawer", "demo_1"), (TASK, "demo_0"), (TASK, "demo_1"),
        ]  # fmt: skip
        assert [(e.task, e.demo) for e in datasets.validation.episodes] == [
            ("open_the_drawer", "demo_2"), (TASK, "demo_2"),
        ]  # fmt: skip
        assert datasets.processor.statistics["actions"].count == len(datasets.train)

    def test_nothing_held_out(self, libero_root: Path) -> None:
        assert open_libero(libero_root, validation_episodes=0).validation is None

    def test_too_few_episodes(self, libero_root: Path) -> None:
        with pytest.raises(ValueError, match=r"dataset.validation_episodes: .* got 3 of the 3 .* 'open_the_drawer'"):
            open_libero(libero_root, validation_episodes=3)

    def test_fewer_episodes_per_task(self, libero_root: Path) -> None:
        datasets = open_libero(libero_root, max_episodes_per_task=2, validation_episodes=1)
        assert [e.demo for e in datasets.train.episodes] == ["demo_0"] * 2
        assert [e.demo for e in datasets.validation.episodes] == ["demo_1"] * 2

    def test_tasks_by_name(self, libero_root: Path) -> None:
        train = open_libero(libero_root, tasks=("open_the_drawer",)).train
        assert {episode.task for episode in train.episodes} == {"open_the_drawer"}


class TestInstruction:
    @pytest.mark.parametrize(
        ("name", "instruction"),
        [
            ("pick_up_the_milk", "pick up the milk"),
            ("KITCHEN_SCENE4_close_the_bottom_drawer", "close the bottom drawer"),
            ("LIVING_ROOM_SCENE10_put_it_down", "put it down"),
            ("data", ""),
            ("", ""),
        ],
    )
    def test_from_the_name(self, name: str, instruction: str) -> None:
        assert instruction_from_name(name) == instruction

    @pytest.mark.parametrize(
        ("info", "source", "instruction"),
        [
            ('{"language_instruction": "pick the bowl"}', "problem_info", "pick the bowl"),
            ('{"language_instruction": "\\"pick the bowl\\""}', "problem_info", "pick the bowl"),
            ('{"language_instruction": ["pick", "the", "bowl"]}', "problem_info", "pick the bowl"),
            ('{"language_instruction": "pick the bowl"}', "file_name", "put the bowl on the plate"),
            ('{"language_instruction": ""}', "problem_info", "put the bowl on the plate"),
            ("no json", "problem_info", "put the bowl on the plate"),
        ],
    )
    def test_of_a_file(self, tmp_path: Path, info: str, source: str, instruction: str) -> None:
        write_task(tmp_path, attributes={"problem_info": info})
        assert open_libero(tmp_path, instruction_source=source).train[0]["instruction"] == instruction
