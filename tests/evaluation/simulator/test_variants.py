"""Variants of tasks: another target in the same scene, as BDDL files that say nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from vla.data.datasets.libero_format import instruction_from_name
from vla.errors import UserError
from vla.evaluation.simulator.runtime import LiberoTask
from vla.evaluation.simulator.variants import other_targets, read_problem

BDDL = """(define (problem LIBERO_Floor_Manipulation)
  (:domain robosuite)
  (:language Pick the {name} and put it there)
    (:regions
      (milk_region (:target floor) (:ranges ((0.0 0.1 0.2 0.3))))
    )
  (:objects
    milk_1 milk_2 - milk
    plate_1 - plate
  )
  (:obj_of_interest
    {target}
    plate_1
  )
  (:init
{init}  )
  (:goal
    (And (On {target} plate_1))
  )
)
"""


def make_tasks(folder, suite, scenes):
    """Tasks from (name, target, {object: place})."""
    tasks = []
    for index, (name, target, starts) in enumerate(scenes):
        init = "".join(f"    (On {item} {place})\n" for item, place in starts.items())
        path = folder / f"{name}.bddl"
        path.write_text(BDDL.format(name=name, target=target, init=init))
        tasks.append(LiberoTask(suite, index, f"pick_up_the_{name}", f"pick up the {name}", path))
    return tasks


@pytest.fixture
def objects(tmp_path):
    starts = {"milk_1": "floor_a", "butter_1": "floor_b", "plate_1": "floor_c", "spare_1": "floor_d"}
    return make_tasks(tmp_path, "libero_object", [("butter", "butter_1", starts), ("milk", "milk_1", starts)])


@pytest.fixture
def bowls(tmp_path):
    stove, box, shelf = ({"bowl_1": a, "bowl_2": b, "plate_1": "c"} for a, b in ("se", "bs", "eb"))
    scenes = [("bowl_on_stove", "bowl_1", stove), ("bowl_on_box", "bowl_1", box), ("bowl_on_shelf", "bowl_1", shelf)]
    return make_tasks(tmp_path, "libero_spatial", scenes)


def test_other_object_of_the_scene_becomes_the_target(objects, tmp_path):
    (variant,) = other_targets(objects[0], objects, tmp_path / "bddl")  # not the plate, nor what no task asks for
    assert variant.name == "OBJECT_SCENE0_pick_up_the_milk"
    assert variant.language == instruction_from_name(variant.name) == "pick up the milk"
    assert (variant.variant_of, variant.index, variant.target) == ("pick_up_the_butter", 0, 1)
    assert variant.bddl_file == tmp_path / "bddl" / f"{variant.name}.bddl"


def test_only_goal_interest_and_language_are_replaced(objects, tmp_path):
    (variant,) = other_targets(objects[0], objects, tmp_path)
    old = objects[0].bddl_file.read_text().splitlines()
    new = variant.bddl_file.read_text().splitlines()
    changed = [(before.strip(), after.strip()) for before, after in zip(old, new, strict=True) if before != after]
    assert changed == [
        ("(:language Pick the butter and put it there)", "(:language pick up the milk)"),
        ("butter_1", "milk_1"),
        ("(And (On butter_1 plate_1))", "(And (On milk_1 plate_1))"),
    ]


def test_bowl_is_called_by_where_it_starts(bowls, tmp_path):
    variants = [variant for task in bowls for variant in other_targets(task, bowls, tmp_path / "bddl")]
    assert [variant.language for variant in variants] == [
        "pick up the bowl_on_shelf", "pick up the bowl_on_stove", "pick up the bowl_on_box",
    ]  # fmt: skip
    assert [read_problem(variant.bddl_file.read_text()).target for variant in variants] == ["bowl_2"] * 3
    assert variants[0].name == "SPATIAL_SCENE0_pick_up_the_bowl_on_shelf"


def test_suite_without_variants_is_refused(tmp_path):
    task = LiberoTask("libero_goal", 0, "open_it", "open it", tmp_path / "none.bddl")
    with pytest.raises(UserError, match="^other_targets: are known of libero_object and libero_spatial only, got libe"):
        other_targets(task, [task], tmp_path)


# --- in the simulator ---


@pytest.mark.simulator
def test_every_scene_of_the_suites_has_its_variants(soup_env, tmp_path):
    from vla.evaluation.simulator.runtime import list_tasks

    for suite, count in {"libero_object": 5, "libero_spatial": 1}.items():
        tasks = list_tasks(suite)
        for task in tasks:
            variants = other_targets(task, tasks, tmp_path)
            assert len({variant.language for variant in variants} - {task.language}) == len(variants) == count
    assert len(list(tmp_path.iterdir())) == 60


@pytest.mark.simulator
def test_environment_of_a_variant_checks_its_own_goal(soup_env, tmp_path):
    """The expert's success is the variant's, and the scene is that of its task."""
    from vla.evaluation.simulator.episodes import search_success
    from vla.evaluation.simulator.libero_env import LiberoEnv
    from vla.evaluation.simulator.runtime import list_tasks

    tasks = list_tasks("libero_object")
    variant = other_targets(tasks[0], tasks, tmp_path)[0]
    env = LiberoEnv(variant, cameras=())
    try:
        assert env.goals == [["in", "cream_cheese_1", "basket_1_contain_region"]]
        assert env.bddl_language == variant.language == "pick up the cream cheese and place it in the basket"
        assert env.movable_objects == soup_env.movable_objects
        env.reset_to(None, 1000, render=False)
        soup_env.reset_to(None, 1000, render=False)
        assert np.array_equal(env.state, soup_env.state)
        rollout, _ = search_success(env, 102000)
        assert rollout.success
        body = env.sim.data.body_xpos
        cheese, basket, soup = (
            body[env.inner.obj_body_id[n]] for n in ("cream_cheese_1", "basket_1", "alphabet_soup_1")
        )
        assert np.linalg.norm((cheese - basket)[:2]) < 0.08 < np.linalg.norm((soup - basket)[:2])
    finally:
        env.close()
