"""The audit and the pool with the real simulator; skipped without the libero extra."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla.evaluation.simulator.demonstrations import check_replay, find_demonstration_file, read_demonstrations
from vla.evaluation.simulator.golden import check_golden_frame, check_published_observation
from vla.evaluation.simulator.messages import Episode, Job
from vla.evaluation.simulator.pool import SimulatorError, SimulatorPool
from vla.evaluation.simulator.protocol import Protocol

pytest.importorskip("mujoco", reason="the libero extra is not installed")
pytest.importorskip("robosuite", reason="the libero extra is not installed")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]

MINI = Path(__file__).resolve().parents[3] / "experiments" / "data" / "libero-mini"
SOUP = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
PROTOCOL = Protocol("libero_object", horizon=280, image_size=64, execute_steps=8)


def test_stored_frame_comes_out():
    check = check_golden_frame("libero_object")
    assert check.status == "passed", check.detail


def test_published_observation_comes_out():
    check = check_published_observation()
    assert check.status == "passed", check.detail
    assert "robot state 0 " in check.detail  # exactly


def test_recorded_demonstration_replays_to_the_last_bit():
    check = check_replay("libero_object", MINI)
    assert check.status == "passed" and check.detail.endswith("all states equal to the last bit")


def test_file_without_reset_state_replays_from_its_first_state(tmp_path):
    """As official files are: the outcome agrees, the bits needn't."""
    source = find_demonstration_file(MINI, SOUP)
    with h5py.File(source) as old, h5py.File(tmp_path / source.name, "w") as new:
        for name in ("actions", "states"):
            new[f"data/demo_0/{name}"] = old[f"data/demo_0/{name}"][()]
    assert read_demonstrations(tmp_path / source.name)[0].kind == "from its first state"
    check = check_replay("libero_object", tmp_path)
    assert check.status == "passed" and "success after" in check.detail


def test_expert_episode_through_the_pool_films_as_it_was_played():
    outcomes = []
    job = Job(Episode("libero_object", 0, 0), PROTOCOL, actor="expert")
    with SimulatorPool(1) as pool:
        pool.run([job], lambda inputs: pytest.fail("the expert asks nobody"), outcomes.append)
        filmed = replace(job, actions=outcomes[0].actions, film_every=40)
        chunks = outcomes[0].actions

        def act(inputs):
            return np.stack([np.resize(chunks[item.step : item.step + 8], (8, 7)) for item in inputs])

        pool.run([filmed, replace(job, actor="remote")], act, outcomes.append)
    assert [outcome.status for outcome in outcomes] == ["success"] * 3
    # Blind, filmed, and rendered where a policy looks: the same episode to the last bit.
    assert len({outcome.states_hash for outcome in outcomes}) == 1
    assert outcomes[1].film.shape[1:] == (64, 128, 3)
    assert [outcome.rendered for outcome in outcomes][0] == 0


def test_wrong_version_is_refused(monkeypatch, tmp_path):
    """The processes look for themselves; a distribution that says it is another MuJoCo is enough to be refused."""
    info = tmp_path / "mujoco-3.3.7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 3.3.7\n")
    with (
        SimulatorPool(1, variables={"PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[3]}"}) as pool,
        pytest.raises(SimulatorError, match="mujoco 3.3.7 changes LIBERO's pictures or physics, need mujoco==3.2.3"),
    ):
        pool.call("vla.evaluation.simulator.audit:audit_simulator", suite="libero_object")
