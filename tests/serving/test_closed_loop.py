"""Closed-loop evaluation from options to result files, with a simulator that counts."""

import json
from pathlib import Path

import fake_simulator as fake
import h5py
import numpy as np
import pytest
from fake_pool import LANGUAGES, FakePool

from vla.conf.closed_loop import ClosedLoopConfig
from vla.errors import UserError
from vla.evaluation.simulator import audit
from vla.evaluation.simulator.golden import Check
from vla.serving.closed_loop import ClosedLoop
from vla.serving.policy import ZeroPolicy


def evaluate(tmp_path, acting=None, pool_class=FakePool, **options):
    config = ClosedLoopConfig(**{"policy": "zero", "horizon": 20, "image_size": 16, "episodes": 3, **options})
    folder = tmp_path / "evaluation"
    folder.mkdir(exist_ok=True)
    with pool_class(folder / "log") as pool:
        loop = ClosedLoop(config, None, folder, pool)
        if acting is not None:
            loop.policy = acting
        code = loop.run()
    return code, json.loads((folder / "results.json").read_text()), pool


class Closing(ZeroPolicy):
    """Closes the gripper in episodes with an even initial state, and hears what it is told."""

    def act(self, inputs):
        self.heard.update({item.episode.task: item.instruction for item in inputs})
        actions = super().act(inputs)
        for row, item in zip(actions, inputs, strict=True):
            row[:, -1] = 1.0 if item.episode.init_id % 2 == 0 else -1.0
        return actions


Closing.heard = {}


def test_results_say_what_was_counted(tmp_path):
    code, results, _ = evaluate(tmp_path, Closing(), tasks=(0, 2), episodes=4)
    assert code == 0
    overall = results["overall"]
    assert (overall["successes"], overall["episodes"], overall["errors"]) == (4, 8, 0)
    assert overall["low"] < overall["rate"] == 0.5 < overall["high"]
    assert overall["distinct_initial_states"] == 4  # the stand-in's tasks share their states
    assert overall["mean_steps"] == fake.GOAL
    assert [row["language"] for row in results["tasks"]] == [LANGUAGES[0], LANGUAGES[2]]
    assert [row["status"] for row in results["episodes"][:4]] == ["success", "failure"] * 2
    assert results["protocol"]["execute_steps"] == 8 and results["versions"]["simulator mujoco"] == "3.2.3"
    assert results["audit"][0]["status"] == "passed"
    page = (tmp_path / "evaluation" / "summary.md").read_text()
    assert "| **all** | | 4/8 | 50.0% | 21.5% - 78.5% | 4 | 12 | 0 |" in page


def test_films_show_a_success_and_a_failure_of_each_task(tmp_path):
    _, results, _ = evaluate(tmp_path, Closing(), tasks=(0,))
    videos = results["tasks"][0]["videos"]
    assert sorted(videos) == ["failure", "success"]
    for name in videos["success"] + videos["failure"]:
        path = tmp_path / "evaluation" / name
        assert path.suffix in (".mp4", ".gif") and path.stat().st_size > 100


def test_interrupted_and_resumed_evaluation_has_its_contact_sheet(tmp_path):
    class Interrupted(FakePool):
        def run(self, jobs, act, on_done):
            if jobs[0].film_every:
                raise KeyboardInterrupt  # before anything is filmed
            super().run(jobs, act, on_done)

    sheet = tmp_path / "evaluation" / "contact_sheet.jpg"
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, Closing(), Interrupted, tasks=(0, 1))
    assert not sheet.exists()
    _, results, _ = evaluate(tmp_path, Closing(), tasks=(0, 1))
    assert results["contact_sheet"] == sheet.name and sheet.stat().st_size > 1000
    _, results, _ = evaluate(tmp_path, Closing(), tasks=(0, 1), videos=0)
    assert "contact_sheet" not in results and not sheet.exists()  # it would be of other results


def test_interrupted_evaluation_goes_on_where_it_stopped(tmp_path):
    class Interrupted(FakePool):
        def run(self, jobs, act, on_done):
            def count(outcome):
                on_done(outcome)
                self.done = getattr(self, "done", 0) + 1
                if self.done == 2:
                    raise KeyboardInterrupt

            super().run(jobs, act, count)

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path, Closing(), Interrupted, tasks=(0, 1), videos=0)
    _, results, pool = evaluate(tmp_path, Closing(), tasks=(0, 1), videos=0)
    assert len(pool.played) == 4 and results["overall"]["episodes"] == 6
    _, again, pool = evaluate(tmp_path, Closing(), tasks=(0, 1), videos=0)
    assert pool.played == [] and again["episodes"] == results["episodes"]
    (tmp_path / "evaluation" / "results.json").unlink()
    _, other, pool = evaluate(tmp_path, Closing(), tasks=(0, 1), videos=0, execute_steps=4)
    assert len(pool.played) == 6  # another protocol is another evaluation


def test_time_is_that_of_all_calls(tmp_path):
    def timing(**options):
        return evaluate(tmp_path, Closing(), tasks=(0,), videos=0, **options)[1]["timing"]

    first = timing(episodes=2)
    assert (first["episodes"], len(first["calls"]), first["untimed_episodes"]) == (2, 1, 0)
    both = timing(episodes=5)
    assert [(call["episodes"], call["workers"]) for call in both["calls"]] == [(2, 1), (3, 1)]
    assert both["calls"][0] == first["calls"][0] and both["episodes"] == 5
    assert both["seconds"] == pytest.approx(sum(call["seconds"] for call in both["calls"]))
    assert timing(episodes=5) == both  # nothing was played
    log = tmp_path / "evaluation" / "episodes.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    del lines[0]["call"]  # as in a file of before
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    after = timing(episodes=5)
    assert (after["episodes"], after["untimed_episodes"]) == (4, 1)


def test_film_and_contact_sheet_tell_seeds_of_one_state_apart(tmp_path):
    _, results, _ = evaluate(tmp_path, Closing(), tasks=(0,), first_init=50, episodes=1)
    (name,) = results["tasks"][0]["videos"]["success"]
    assert Path(name).stem == "task-00-init-00-seed-1-success"
    assert (tmp_path / "evaluation" / results["contact_sheet"]).stat().st_size > 1000


def test_versions_that_were_forced_are_another_evaluation(tmp_path):
    class Newer(FakePool):
        def call(self, target, **arguments):
            answer = super().call(target, **arguments)
            if isinstance(answer, dict):
                answer["versions"] = {"mujoco": "3.3.7"}
            return answer

    _, first, _ = evaluate(tmp_path, Closing(), Newer, tasks=(0,), videos=0)
    (tmp_path / "evaluation" / "results.json").unlink()
    _, second, pool = evaluate(tmp_path, Closing(), tasks=(0,), videos=0)
    assert len(pool.played) == 3 and first["variant"] != second["variant"]


def test_replay_without_demonstrations_from_there_on_is_refused(tmp_path):
    with h5py.File(tmp_path / "task_1_demo.hdf5", "w") as file:
        file["data/demo_0/actions"], file["data/demo_0/states"] = np.zeros((2, 7)), np.zeros((2, 3))
    with pytest.raises(UserError, match="first_init: there are fewer than 6 demonstrations of every chosen task"):
        evaluate(tmp_path, policy="replay", demonstrations=tmp_path, first_init=5)


def test_error_is_neither_success_nor_failure(tmp_path):
    options = {"tasks": (0,), "episodes": 3, "first_init": fake.RAISES, "videos": 0}

    class Numbered(FakePool):  # with states as far as the one that raises
        def call(self, target, **arguments):
            answer = super().call(target, **arguments)
            for task in answer["tasks"] if isinstance(answer, dict) else ():
                task["initial_states"] = 100
            return answer

    code, results, _ = evaluate(tmp_path, Closing(), Numbered, **options)
    assert code == 1
    assert (results["overall"]["episodes"], results["overall"]["errors"]) == (2, 1)
    errors = [row for row in results["episodes"] if row["status"] == "error"]
    assert errors[0]["message"] == "RuntimeError: the simulation exploded" and errors[0]["attempts"] == 2


def test_episodes_past_the_last_state_get_another_seed(tmp_path):
    _, results, _ = evaluate(tmp_path, Closing(), tasks=(0,), first_init=49, episodes=3, videos=0)
    assert [(row["init_id"], row["seed"]) for row in results["episodes"]] == [(49, 0), (0, 1), (1, 1)]


def test_shuffled_instructions_are_those_of_other_tasks(tmp_path):
    Closing.heard.clear()
    evaluate(tmp_path, Closing(), instructions="shuffled", episodes=1, videos=0)
    assert sorted(Closing.heard) == [0, 1, 2, 3]
    assert all(text != LANGUAGES[task] for task, text in Closing.heard.items())
    assert sorted(Closing.heard.values()) == sorted(LANGUAGES)


def test_failed_audit_stops_unless_it_is_forced(tmp_path):
    class Dark(FakePool):
        checks = (Check("golden-frame", "failed", "mean picture error 39"),)

    with pytest.raises(UserError, match="self-audit: golden-frame failed: mean picture error 39; --force golden-frame"):
        evaluate(tmp_path, Closing(), Dark)
    assert not (tmp_path / "evaluation" / "episodes.jsonl").exists()
    _, results, _ = evaluate(tmp_path, Closing(), Dark, force=("golden-frame",), episodes=1, videos=0)
    assert results["audit"][0]["status"] == "failed, forced"


def test_replay_plays_demonstrations_from_their_own_states(tmp_path):
    demos = tmp_path / "demos"
    demos.mkdir()
    with h5py.File(demos / "task_1_demo.hdf5", "w") as file:
        for number, reset in ((0, 3.0), (1, 4.0)):
            group = file.create_group(f"data/demo_{number}")
            actions = np.zeros((fake.GOAL + 2, 7))
            actions[:, 6] = 1.0
            group["actions"] = actions
            steps = np.arange(len(actions), dtype=float)
            group["states"] = np.stack([steps, steps, np.full(len(actions), reset + (number == 1))], axis=1)
            group.attrs["reset_state"], group.attrs["seed"] = [reset], 1000 + number
    _, results, _ = evaluate(tmp_path, policy="replay", demonstrations=demos, videos=0)
    assert [row["seed"] for row in results["episodes"]] == [1000, 1001]
    assert [row["status"] for row in results["episodes"]] == ["success", "success"]
    # The second file's states are not what its reset state and actions give.
    assert [row["bit_exact"] for row in results["episodes"]] == [True, False]
    assert results["overall"]["bit_exact"] == 1


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UserError, match="tasks: libero-object has the tasks 0 to 3, got 7"):
        evaluate(tmp_path, tasks=(7,))
    with pytest.raises(UserError, match="execute_steps: must be at most the policy's chunk of 8, got 9"):
        evaluate(tmp_path, execute_steps=9)
    with pytest.raises(UserError, match="execute_steps: must be below the policy's chunk of 8 with an ensemble, got 8"):
        evaluate(tmp_path, ensemble=0.1)  # as many as a chunk has are executed unless it is said
    with pytest.raises(ValueError, match="checkpoint: must name a run or checkpoint folder"):
        ClosedLoopConfig()
    with pytest.raises(ValueError, match="force: must be of .*, got 'all'"):
        ClosedLoopConfig(policy="zero", force=("all",))
    with pytest.raises(ValueError, match="demonstrations: must name a folder"):
        ClosedLoopConfig(policy="replay")


def test_checks_that_can_be_forced_are_those_that_there_are():
    from vla.conf.closed_loop import CHECKS

    assert CHECKS == audit.CHECKS
