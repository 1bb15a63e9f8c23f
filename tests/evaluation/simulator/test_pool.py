import os
import subprocess
from multiprocessing.connection import wait

import fake_simulator as fake
import numpy as np
import pytest

from vla.evaluation.simulator.messages import Episode, Job
from vla.evaluation.simulator.pool import SimulatorError, SimulatorPool
from vla.evaluation.simulator.protocol import Protocol

PROTOCOL = Protocol("libero_object", horizon=20, image_size=16, execute_steps=4, num_frames=2, frame_stride=2)


def jobs(*init_ids, task=0, **options):
    return [Job(Episode("libero_object", task, i), PROTOCOL, "do it", **options) for i in init_ids]


def close_gripper(inputs):
    """Succeeds after GOAL steps."""
    return np.ones((len(inputs), 8, 7))


def play(pool, todo, act=close_gripper):
    outcomes = {}
    pool.run(todo, act, lambda outcome: outcomes.update({outcome.episode.init_id: outcome}))
    return outcomes


@pytest.fixture
def pool(tmp_path):
    with SimulatorPool(2, factory="fake_simulator:make", time_limit=20.0, log=tmp_path / "log") as pool:
        yield pool


def test_policy_decides_the_outcome(pool):
    outcomes = play(pool, jobs(*range(6)))
    assert [outcomes[i].status for i in range(6)] == ["success"] * 6
    assert all(outcome.steps == fake.GOAL and outcome.attempts == 1 for outcome in outcomes.values())
    assert len({outcome.initial_state_hash for outcome in outcomes.values()}) == 6
    idle = play(pool, jobs(0), lambda inputs: np.zeros((len(inputs), 8, 7)))
    assert idle[0].status == "failure" and idle[0].steps == PROTOCOL.horizon


def test_policy_sees_the_frames_of_its_time_in_order(pool):
    seen = {}

    def act(inputs):
        for asked in inputs:
            seen[asked.step] = (asked.images[:, 0, 0, 0].tolist(), asked.instruction)
        return close_gripper(inputs)

    outcome = play(pool, jobs(0), act)[0]
    assert seen[0] == ([0, 100, 0, 100], "do it")  # two cameras, the first frame repeated
    assert seen[4] == ([2, 102, 4, 104], "do it")
    assert sorted(seen) == [0, 4, 8]
    assert outcome.rendered == 6  # steps 0, 2, 4, 6, 8, 10: only what it looked at, and two for the next chunk


def test_same_actions_give_the_same_hash(pool):
    first = play(pool, jobs(0))[0]
    again = play(pool, jobs(0, actions=first.actions))[0]
    assert again.states_hash == first.states_hash and again.status == "success" and again.rendered == 0
    other = play(pool, jobs(0), lambda inputs: -np.ones((len(inputs), 8, 7)))[0]
    assert other.states_hash != first.states_hash


def test_film_shows_upright_frames_side_by_side(pool):
    first = play(pool, jobs(0))[0]
    film = play(pool, jobs(0, actions=first.actions, film_every=5))[0].film
    assert film.shape == (3, 16, 32, 3)
    assert film[:, 0, 0, 0].tolist() == [0, 5, 10] and film[0, 0, 16, 0] == 100


def test_waiting_processes_are_answered_together(pool, monkeypatch):
    sizes = []

    def act(inputs):
        sizes.append(len(inputs))
        return close_gripper(inputs)

    def until_all_have_spoken(connections, timeout):
        for connection in connections:
            wait([connection], 30)
        return wait(connections, timeout)

    monkeypatch.setattr("vla.evaluation.simulator.pool.wait", until_all_have_spoken)
    play(pool, jobs(*range(6)), act)
    assert max(sizes) == 2


def test_hang_is_killed_tried_again_and_reported(tmp_path):
    with SimulatorPool(1, factory="fake_simulator:make", time_limit=4.0) as pool:
        outcomes = play(pool, jobs(0, fake.HANGS, 1))
    assert outcomes[0].status == outcomes[1].status == "success"
    assert outcomes[fake.HANGS].status == "error" and outcomes[fake.HANGS].attempts == 2
    assert "no sign of life for 4 s" in outcomes[fake.HANGS].message
    assert pool.restarts >= 2  # a busy machine may take as long to start a process


def test_crash_is_tried_once_more(tmp_path):
    variables = {"FAKE_SIMULATOR_MARKER": str(tmp_path / "died")}
    with SimulatorPool(2, factory="fake_simulator:make", log=tmp_path / "log", variables=variables) as pool:
        outcomes = play(pool, jobs(0, fake.DIES_ONCE, fake.DIES, fake.RAISES))
    assert outcomes[fake.DIES_ONCE].status == "success" and outcomes[fake.DIES_ONCE].attempts == 2
    assert outcomes[fake.DIES].status == "error"
    assert outcomes[fake.DIES].message.endswith("died with exit code 7: segmentation fault of a driver")
    assert outcomes[fake.RAISES].message == "RuntimeError: the simulation exploded"
    assert outcomes[0].status == "success"


def test_simulation_that_comes_apart_is_an_error_of_its_episode(pool):
    outcomes = play(pool, jobs(0, fake.DIVERGES, 1))
    assert [outcomes[i].status for i in (0, fake.DIVERGES, 1)] == ["success", "error", "success"]
    assert outcomes[fake.DIVERGES].message == "SimulationError: LinAlgError: Singular matrix"


def test_interpreter_that_is_not_there_is_one_line(tmp_path):
    with (
        SimulatorPool(1, python=tmp_path / "python") as pool,
        pytest.raises(
            SimulatorError, match="^simulator_python: .*/python can't be started: No such file or directory$"
        ),
    ):
        pool.call("fake_simulator:modules")


def test_nothing_but_errors_stops_the_evaluation(pool):
    with pytest.raises(SimulatorError, match="4 episodes, each tried twice, ended in errors; the last: RuntimeError"):
        play(pool, jobs(*[fake.RAISES] * 12))


def test_wrong_prediction_stops_at_once(pool):
    with pytest.raises(SimulatorError, match="not finite"):
        play(pool, jobs(0), lambda inputs: np.full((len(inputs), 8, 7), np.nan))
    with pytest.raises(SimulatorError, match="execute_steps: must be at most the chunk's 2, got 4"):
        play(pool, jobs(0), lambda inputs: np.ones((len(inputs), 2, 7)))


def test_error_of_the_policy_ends_the_processes(pool):
    def act(inputs):
        raise KeyError("the model")

    with pytest.raises(KeyError):
        play(pool, jobs(0, 1), act)
    assert play(pool, jobs(0))[0].status == "success"  # new processes


def test_processes_import_no_torch_and_end_with_the_pool(pool):
    modules = pool.call("fake_simulator:modules")
    assert "numpy" in modules and "torch" not in modules and "vla.data" not in modules
    pids = pool.process_ids
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_call_that_fails_is_one_line(pool):
    with pytest.raises(SimulatorError, match="^RuntimeError: no display here$"):
        pool.call("fake_simulator:fail", message="no\ndisplay  here")


def test_worker_ends_when_the_evaluation_is_gone(pool):
    pool.call("fake_simulator:modules")
    process = pool._processes[0]
    process.connection.close()
    try:
        assert process.popen.wait(10) == 0
    except subprocess.TimeoutExpired:
        pytest.fail("the simulator process lives on without anybody to serve")
