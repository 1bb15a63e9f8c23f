"""The expert's skills for furniture and dishes, and that what it does in the recorded suites stays the same."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="the libero extra is not installed")
pytest.importorskip("robosuite", reason="the libero extra is not installed")

from vla.evaluation.simulator.dragging import plan_drag
from vla.evaluation.simulator.episodes import Disturbances, play_expert, search_success
from vla.evaluation.simulator.expert import steps_for
from vla.evaluation.simulator.grasping import plan_grasp
from vla.evaluation.simulator.joints import joint_goal
from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.motion import looking_down, rotation_about, rotation_vector
from vla.evaluation.simulator.placing import ExpertError, placement_for
from vla.evaluation.simulator.runtime import list_tasks, official_initial_states

pytestmark = pytest.mark.simulator

MIDDLE, TOP = "wooden_cabinet_1_middle_region", "wooden_cabinet_1_top_region"


def make_env(suite, index):
    """A task without cameras at its first official state."""
    env = LiberoEnv(list_tasks(suite)[index], cameras=())
    env.reset_to(official_initial_states(env.task)[0], seed=0, render=False)
    return env


@pytest.fixture(scope="module")
def desk():
    """The scene of libero_goal: cabinet, stove, rack, bowl, plate, bottle and cream cheese."""
    env = make_env("libero_goal", 0)
    yield env
    env.close()


# Sums over an episode's actions. Demonstrations that were recorded with an earlier expert can only be recorded again
# while these hold.
SUMS = {
    ("libero_object", 0): (102, [12.745008659, 20.595405893, -11.366803067, 0.229250294, -0.386170362, 0.262923991]),
    ("libero_spatial", 8): (119, [10.537053812, 14.338414806, -22.428353199, 2.526592235, -6.119755606, 0.489272484]),
}


@pytest.mark.parametrize("suite, index", SUMS)
def test_recorded_suites_are_played_as_before(suite, index):
    env = make_env(suite, index)
    try:
        rollout = play_expert(env, seed=1007, disturbances=Disturbances(0.5, 5, 0.15))
    finally:
        env.close()
    assert rollout.success
    steps, sums = SUMS[suite, index]
    assert len(rollout.actions) == steps
    np.testing.assert_allclose(rollout.actions[:, :6].sum(axis=0), sums, atol=1e-6)


@pytest.mark.parametrize(
    "suite, index",
    [
        pytest.param("libero_goal", 3, id="pull a drawer open and put the bowl into it"),
        pytest.param("libero_goal", 5, id="drag the plate"),
        pytest.param("libero_goal", 7, id="turn the stove's knob"),
        pytest.param("libero_10", 3, id="put the bowl into a drawer and push it shut", marks=pytest.mark.slow),
    ],
)
def test_skill_reaches_its_goal(suite, index):
    env = make_env(suite, index)
    try:
        rollout, _ = search_success(env, seed=0, initial_state=official_initial_states(env.task)[0])
    finally:
        env.close()
    assert rollout.success
    assert np.abs(rollout.actions).max() <= 1.0


def test_joint_goals_know_their_way(desk):
    drawer = joint_goal(desk, ["open", MIDDLE])
    assert drawer.slides
    assert not drawer.done()
    way = drawer.towards(np.zeros(3))
    np.testing.assert_allclose(way, [0.0, 1.0, 0.0], atol=1e-6)  # the cabinet stands to the robot's right
    np.testing.assert_allclose(drawer.carried(np.zeros(3), drawer.direction * 0.1), 0.1 * way, atol=1e-6)
    knob = joint_goal(desk, ["turnon", "flat_stove_1"])
    assert not knob.slides
    there = knob.anchor + np.array([0.05, 0.0, 0.0])
    np.testing.assert_allclose(knob.carried(there, np.pi / 2), knob.anchor + [0.0, 0.05, 0.0], atol=1e-6)


@pytest.mark.parametrize("goal", [["open", "flat_stove_1"], ["turnon", "plate_1"], ["stack", "plate_1"]])
def test_joint_goal_without_a_joint_is_refused(desk, goal):
    with pytest.raises(ExpertError, match="no script for the goal"):
        joint_goal(desk, goal)


def test_drawer_is_opened_before_something_goes_in(desk, monkeypatch):
    goal = ["in", "akita_black_bowl_1", TOP]
    monkeypatch.setattr(LiberoEnv, "goals", property(lambda env: [["close", TOP], goal]))
    assert steps_for(desk) == [["open", TOP], goal, ["close", TOP]]


def test_place_in_a_drawer_lies_within_it(desk):
    joint = "wooden_cabinet_1_top_level"
    desk.sim.data.set_joint_qpos(joint, -0.155)  # wide open
    desk.sim.forward()
    place = placement_for(desk, ["in", "akita_black_bowl_1", TOP])
    site = desk.sim.data.get_site_xpos(TOP)
    assert place.surface < site[2] < place.rim
    assert np.abs(place.centre - site[:2]).max() < 0.03
    desk.sim.data.set_joint_qpos(joint, 0.0)
    desk.sim.forward()


def test_two_objects_share_a_region(desk, monkeypatch):
    region = "flat_stove_1_cook_region"
    both = [["on", name, region] for name in ("cream_cheese_1", "wine_bottle_1")]
    monkeypatch.setattr(LiberoEnv, "goals", property(lambda env: both))
    first, second = (placement_for(desk, goal) for goal in both)
    assert np.linalg.norm(first.centre - second.centre) > 0.03
    assert first.surface == second.surface > desk.sim.data.get_site_xpos(region)[2]  # the burner, not the region


def test_something_behind_a_door_is_refused():
    env = make_env("libero_10", 9)
    try:
        with pytest.raises(ExpertError, match="does not fit through the door"):
            steps_for(env)
    finally:
        env.close()


def test_pot_is_held_by_its_lid():
    env = make_env("libero_10", 8)
    try:
        grasp = plan_grasp(env, "moka_pot_1")
        assert grasp.kind == "top"
        assert grasp.top - grasp.position[2] < 0.01
        middle = env.sim.data.body_xpos[env.inner.obj_body_id["moka_pot_1"]]
        assert np.linalg.norm(grasp.position[:2] - middle[:2]) < 0.02
    finally:
        env.close()


def test_dish_is_dragged_into_its_region(desk):
    *_, end = plan_drag(desk, "plate_1", "main_table_stove_front_region")
    site = desk.inner.object_sites_dict["main_table_stove_front_region"]
    middle = desk.sim.data.get_site_xpos("main_table_stove_front_region")[:2]
    assert np.all(np.abs(end - middle) < np.asarray(site.size)[:2])


def test_rotation_about_is_undone_by_rotation_vector():
    axis = np.array([2.0, -1.0, 2.0]) / 3.0
    np.testing.assert_allclose(rotation_vector(rotation_about(axis, 0.9)), 0.9 * axis)
    np.testing.assert_allclose(looking_down(0.4)[:, 2], [0.0, 0.0, -1.0])
