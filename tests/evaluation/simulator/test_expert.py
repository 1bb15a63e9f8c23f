"""The scripted expert solves its tasks, and what it did plays again with pictures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the libero extra is not installed")
pytest.importorskip("robosuite", reason="the libero extra is not installed")

from vla.evaluation.simulator.episodes import Disturbances, play_expert, replay, search_success
from vla.evaluation.simulator.expert import ExpertError
from vla.evaluation.simulator.grasping import MAX_JAW_WIDTH, boxes, cross_section, plan_grasp
from vla.evaluation.simulator.libero_env import CLOSE, OPEN, LiberoEnv
from vla.evaluation.simulator.mistakes import LostHand, MissedGrasp
from vla.evaluation.simulator.motion import rotation_vector
from vla.evaluation.simulator.placing import placement_for
from vla.evaluation.simulator.runtime import list_tasks, official_initial_states

pytestmark = pytest.mark.simulator


def test_expert_puts_the_soup_in_the_basket(soup_env):
    rollout = play_expert(soup_env, seed=0, initial_state=official_initial_states(soup_env.task)[0])
    assert rollout.success
    assert not rollout.rim_grasp
    assert len(rollout.actions) == rollout.success_step + 9
    assert np.abs(rollout.actions).max() <= 1.0
    assert np.array_equal(rollout.actions, rollout.expert_actions)


def test_expert_recovers_from_noise_and_the_seed_decides_it(soup_env):
    first, second = (play_expert(soup_env, seed=1003, disturbances=Disturbances(0.1)) for _ in range(2))
    assert first.success
    assert np.array_equal(first.actions, second.actions)
    assert np.array_equal(first.states, second.states)
    assert not np.array_equal(first.actions, first.expert_actions)


def test_grasp_that_misses_on_purpose_is_noticed_and_made_good(soup_env):
    rollout = play_expert(soup_env, seed=1002, disturbances=Disturbances(missed_grasps=1.0))
    assert rollout.success
    gripper = rollout.actions[:, 6]
    mistake, rest = gripper[: rollout.learn_from], gripper[rollout.learn_from :]
    assert list(mistake[np.flatnonzero(np.diff(mistake, prepend=0))]) == [OPEN, CLOSE], "closes once, in vain"
    assert list(rest[np.flatnonzero(np.diff(rest, prepend=0))]) == [OPEN, CLOSE, OPEN], "opens, grasps, lets go"
    assert np.array_equal(rollout.actions, rollout.expert_actions)


def test_hand_that_got_lost_on_purpose_finds_its_way(soup_env):
    rollout = play_expert(soup_env, seed=1002, disturbances=Disturbances(lost_hands=1.0))
    assert rollout.success
    assert 10 <= rollout.learn_from <= 30
    assert np.all(rollout.actions[: rollout.learn_from, 6] == OPEN)
    legs = np.unique(rollout.actions[: rollout.learn_from, :6], axis=0)
    assert len(legs) == 2 and np.abs(legs).max() <= 1.0


def test_share_of_episodes_with_a_mistake():
    assert not any(Disturbances().mistake(seed) for seed in range(100))
    drawn = [Disturbances(missed_grasps=0.3, lost_hands=0.3).mistake(seed) for seed in range(400)]
    for kind in (MissedGrasp, LostHand):
        assert 80 < sum(isinstance(mistake, kind) for mistake in drawn) < 160
    missed = [mistake for mistake in drawn if isinstance(mistake, MissedGrasp)]
    again = (Disturbances(missed_grasps=0.3).mistake(seed) for seed in range(400))
    assert missed == [mistake for mistake in again if mistake is not None]


def test_expert_holds_a_bowl_by_its_rim():
    task = list_tasks("libero_spatial")[2]
    env = LiberoEnv(task, cameras=())
    try:
        rollout, _ = search_success(env, seed=0, initial_state=official_initial_states(task)[0])
        assert rollout.success
        assert rollout.rim_grasp
    finally:
        env.close()


def test_grasp_lies_on_the_object(soup_env):
    soup_env.reset_to(official_initial_states(soup_env.task)[0], seed=0, render=False)
    grasp = plan_grasp(soup_env, "alphabet_soup_1")
    corners = boxes(soup_env, "alphabet_soup_1").reshape(-1, 3)
    assert np.all(grasp.position > corners.min(axis=0))
    assert np.all(grasp.position < corners.max(axis=0))
    across = corners[:, :2] @ np.array([-np.sin(grasp.yaw), np.cos(grasp.yaw)])
    assert np.ptp(across) <= MAX_JAW_WIDTH + 0.01


def test_goal_without_a_script_is_refused(soup_env):
    with pytest.raises(ExpertError, match="no script for the goal"):
        placement_for(soup_env, ["turnon", "flat_stove_1"])


def test_cross_section_of_a_tilted_box():
    cube = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    s = np.sqrt(0.5)
    tilted = cube @ np.array([[1, 0, 0], [0, s, -s], [0, s, s]]).T
    points = cross_section(tilted[None], -0.1, 0.1)
    np.testing.assert_allclose(np.abs(points[:, 0]).max(), 1.0)
    np.testing.assert_allclose(np.abs(points[:, 1]).max(), np.sqrt(2.0))
    assert len(cross_section(tilted[None], 2.0, 3.0)) == 0


def test_rotation_vector_inverts_a_turn():
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    np.testing.assert_allclose(rotation_vector(turn), [0, 0, angle])
    np.testing.assert_allclose(rotation_vector(np.eye(3)), np.zeros(3))


def test_replay_carries_pictures(soup_env):
    rollout = play_expert(soup_env, seed=1004, horizon=5)
    rendered = replay(soup_env, rollout)
    assert len(rendered.observations) == len(rollout.actions) == 5
    assert all(observation.images["agentview"].shape == (128, 128, 3) for observation in rendered.observations)
