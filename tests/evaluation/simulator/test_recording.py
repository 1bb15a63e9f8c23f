"""Which seeds are recorded by whom, and that the files are the same however the recording went."""

from __future__ import annotations

from dataclasses import replace

import fake_recorder as fake
import h5py
import numpy as np
import pytest

from vla.conf.record import SEEDS_PER_TASK, Recipe
from vla.data.datasets.hdf5_index import find_files
from vla.evaluation.simulator import recording as recording_module
from vla.evaluation.simulator.recorders import LiberoRecorder, Schedule, Step, run
from vla.evaluation.simulator.recording import RecordingError, TaskRecording

RECIPE = Recipe(compression=0)
TASKS = fake.list_tasks("libero_object")


def plan(folder, demos=(5, 5, 5), recipe=RECIPE):
    folder.mkdir(exist_ok=True)
    return [TaskRecording(task, recipe, count, folder) for task, count in zip(TASKS, demos, strict=False)]


def content(path):
    """All arrays and attributes of a file."""
    with h5py.File(path) as file:
        found = {("data", key): value for key, value in file["data"].attrs.items()}

        def visit(name, item):
            found.update({(name, key): value for key, value in item.attrs.items()})
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        file["data"].visititems(visit)
    return found


def assert_same(first, second):
    assert sorted(path.name for path in first.glob("*.hdf5")) == sorted(path.name for path in second.glob("*.hdf5"))
    for path in first.glob("*.hdf5"):
        one, other = content(path), content(second / path.name)
        assert one.keys() == other.keys()
        assert not [key for key in one if not np.array_equal(one[key], other[key])]


# --- seeds ---


def test_no_two_tasks_or_variants_share_a_seed():
    recipe = Recipe(seed=5000)
    begins = [recipe.first_seed(task) for task in range(90)]
    begins += [recipe.first_seed(task, target) for task in range(10) for target in range(10)]
    assert np.diff(sorted(begins)).min() >= SEEDS_PER_TASK
    assert begins[3] == 8000


def test_open_seeds_are_no_more_than_needed_and_replace_failures(tmp_path):
    task = plan(tmp_path, [3])[0]
    assert task.open_seeds() == [1000, 1001, 1002]
    task.results = {1001: False}
    assert task.open_seeds(in_flight=[1000]) == [1002, 1003]


def test_kept_are_the_first_successes_in_order_of_seeds(tmp_path):
    task = plan(tmp_path, [3])[0]
    task.results = {1000: True, 1002: True, 1003: True}
    assert task.seeds() == ([1000, 1002], [], [1001])  # 1001 may still succeed, and would come before 1003
    task.results[1001] = False
    assert task.seeds() == ([1000, 1002, 1003], [1001], [])


def test_task_that_mostly_fails_is_given_up(tmp_path):
    task = plan(tmp_path, [2])[0]
    task.results = dict.fromkeys(range(1000, 1007), False)
    assert task.open_seeds() == [1007, 1008]
    task.results[1007] = False
    with pytest.raises(RecordingError, match="pick_up_the_thing_0: the expert fails too often, at the seeds"):
        task.open_seeds()


# --- who records what ---


def test_process_stays_with_its_task_and_then_helps_where_most_is_open(tmp_path):
    schedule = Schedule(plan(tmp_path, [2, 4]))
    assert schedule.next() == Step(1, 2000)  # the longest
    assert schedule.next() == Step(0, 1000)  # 4 seeds of which one is being played, against 2
    assert schedule.next(present=0) == Step(0, 1001)
    assert schedule.next(present=0) == Step(1, 2001)  # task 0 has run dry
    assert schedule.next(present=1) == Step(1, 2002)


def test_file_is_assembled_once_when_all_its_seeds_are_in(tmp_path):
    schedule = Schedule(plan(tmp_path, [2]))
    first, second = schedule.next(), schedule.next()
    assert schedule.next() is None
    schedule.finish(second, True)
    assert schedule.next(present=0) is None
    schedule.finish(first, False)
    third = schedule.next(present=0)
    assert third == Step(0, 1002)
    schedule.finish(third, True)
    assembly = schedule.next(present=0)
    assert assembly == Step(0, None)
    assert schedule.next(present=0) is None
    schedule.finish(assembly, True)
    assert schedule.next(present=0) is None and schedule.recordings[0].finished


def test_other_tasks_go_on_when_one_is_given_up(tmp_path):
    tasks = plan(tmp_path, [1, 1])
    tasks[0].results = dict.fromkeys(range(1000, 1007), False)
    schedule = Schedule(tasks)
    assert schedule.next() == Step(1, 2000)
    assert schedule.next(present=0) is None
    assert list(schedule.given_up) == [0]


# --- files ---


@pytest.fixture
def in_process(monkeypatch):
    """Records in this process; gives the seeds that were played. `most` ends it early, as if interrupted."""
    monkeypatch.setattr(recording_module, "play_expert", lambda env, seed, *rest: fake.rollout(seed))
    monkeypatch.setattr(recording_module, "replay", lambda env, played: played)

    def record(recordings, most=1000):
        schedule, played, present = Schedule(recordings), [], None
        while (step := schedule.next(present)) is not None:
            present = step.number
            if step.seed is not None and len(played) == most:
                break
            task = schedule.recordings[step.number]
            success = step.seed is None or task.record(fake.fake_env(task.task), step.seed)
            if step.seed is None:
                task.assemble(fake.fake_env(task.task))
            else:
                played.append(step.seed)
            schedule.finish(step, success)
        return played

    return record


def test_number_of_processes_does_not_show_in_the_files(tmp_path):
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        run(Schedule(plan(folder, [7, 3, 5])), workers, make_recorder=fake.make_recorder)
        assert len({line.split()[0] for line in (folder / "played").read_text().splitlines()}) == workers
        assert not list(folder.glob(".*"))
    assert_same(tmp_path / "1", tmp_path / "3")


def test_one_task_is_shared_by_two_processes(tmp_path):
    run(Schedule(plan(tmp_path, [8])), 2, make_recorder=fake.make_recorder)
    played = [line.split() for line in (tmp_path / "played").read_text().splitlines()]
    assert len({pid for pid, _ in played}) == 2
    assert sorted(int(seed) for _, seed in played) == list(range(1000, 1010))
    report = plan(tmp_path, [8])[0].report()
    assert report.kept == (1000, 1001, 1002, 1004, 1005, 1006, 1008, 1009) and report.failed == (1003, 1007)


def test_interrupted_and_resumed_is_as_uninterrupted(tmp_path, in_process):
    in_process(plan(tmp_path / "whole"))
    first = in_process(plan(tmp_path / "resumed"), most=7)
    second = in_process(plan(tmp_path / "resumed"))
    assert len(first) == 7 and not set(first) & set(second)
    assert_same(tmp_path / "whole", tmp_path / "resumed")
    assert in_process(plan(tmp_path / "resumed")) == []


def test_training_does_not_see_the_parts_of_a_recording(tmp_path, in_process):
    in_process(plan(tmp_path, [2, 3]), most=4)
    assert list(tmp_path.glob(".*/*.hdf5"))
    assert find_files(tmp_path, ()) == [tmp_path / "pick_up_the_thing_1_demo.hdf5"]


def test_more_demonstrations_go_on_from_the_finished_file(tmp_path, in_process):
    in_process(plan(tmp_path / "whole", [6]))
    in_process(plan(tmp_path / "grown", [3]))
    stopped = in_process(plan(tmp_path / "grown", [6]), most=1)
    assert plan(tmp_path / "grown", [3])[0].finished  # an interruption leaves the old file whole
    assert stopped + in_process(plan(tmp_path / "grown", [6])) == [1003, 1004, 1005, 1006]
    assert_same(tmp_path / "whole", tmp_path / "grown")


def test_fewer_demonstrations_leave_the_file_as_it_is(tmp_path, in_process):
    in_process(plan(tmp_path, [4]))
    before = (tmp_path / "pick_up_the_thing_0_demo.hdf5").read_bytes()
    assert in_process(plan(tmp_path, [2])) == []
    assert (tmp_path / "pick_up_the_thing_0_demo.hdf5").read_bytes() == before
    assert len(plan(tmp_path, [2])[0].report().kept) == 4


def test_files_of_another_recipe_are_left_alone(tmp_path, in_process):
    in_process(plan(tmp_path / "finished", [1]))
    with pytest.raises(RecordingError, match="recorded with other settings; move it away"):
        plan(tmp_path / "finished", [1], replace(RECIPE, noise=0.1))
    in_process(plan(tmp_path / "begun", [3]), most=1)
    with pytest.raises(RecordingError, match="begun with other settings; delete it"):
        plan(tmp_path / "begun", [1], replace(RECIPE, image_size=64))
    (tmp_path / "begun" / "pick_up_the_thing_0_demo.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(RecordingError, match="is no whole recording .*; move it away"):
        plan(tmp_path / "begun", [1])


def test_files_older_than_a_setting_have_its_default(tmp_path, in_process):
    in_process(plan(tmp_path, [1]))
    with h5py.File(tmp_path / "pick_up_the_thing_0_demo.hdf5", "r+") as file:
        file["data"].attrs["recipe"] = '{"compression": 0, "image_size": 128, "noise": 0.0, "seed": 1000}'
    assert plan(tmp_path, [1])[0].finished


def test_files_say_from_where_on_to_learn(tmp_path, in_process):
    in_process(plan(tmp_path, [3]))
    with h5py.File(tmp_path / "pick_up_the_thing_0_demo.hdf5") as file:
        assert [int(file[f"data/demo_{i}"].attrs["learn_from"]) for i in range(3)] == [1000 % 3, 1001 % 3, 1002 % 3]


def test_process_that_dies_is_replaced(tmp_path):
    recordings = plan(tmp_path, [2])
    (tmp_path / "die").touch()
    run(Schedule(recordings), 1, make_recorder=fake.make_recorder)
    assert recordings[0].report().kept == (1000, 1001)


def test_step_that_fails_twice_ends_the_recording_in_one_line(tmp_path):
    recordings = plan(tmp_path, [2])
    (tmp_path / "raise").touch()
    with pytest.raises(RecordingError, match=r"^pick_up_the_thing_0, seed 100\d: RuntimeError: no luck, 2 times; .*$"):
        run(Schedule(recordings), 2, make_recorder=fake.make_recorder)


def test_task_without_a_script_is_given_up_and_the_others_are_recorded(tmp_path):
    schedule = Schedule(plan(tmp_path, [3, 2]))
    (tmp_path / "unscripted").touch()
    run(schedule, 2, make_recorder=fake.make_recorder)
    assert [str(error) for error in schedule.given_up.values()] == [
        "pick_up_the_thing_0: no script for the goal ['open', 'microwave_1']"
    ]
    assert [recording.finished for recording in schedule.recordings] == [False, True]


# --- in the simulator ---


@pytest.mark.simulator
@pytest.mark.slow
def test_simulator_gives_the_same_files_however_it_is_shared(soup_env, tmp_path):
    """One process, against one that is stopped after a seed and two that go on."""

    def recordings(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return [TaskRecording(soup_env.task, Recipe(compression=1, image_size=32), 3, tmp_path / name)]

    recorder, (task,) = LiberoRecorder(), recordings("one")
    for seed in (1000, 1001, 1002):
        task.results[seed] = recorder(task, seed)
    recorder(task, None)
    recorder(recordings("two")[0], 1000)
    recorder.close()
    run(Schedule(recordings("two")), 2)
    assert_same(tmp_path / "one", tmp_path / "two")
    assert len(content(task.path)) > 20
    assert [path.name for path in (tmp_path / "two").iterdir()] == [task.path.name]
