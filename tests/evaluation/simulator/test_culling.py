"""Frames without what their camera cannot see: the same pixels as those of the whole scene."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco", reason="the libero extra is not installed")
pytest.importorskip("robosuite", reason="the libero extra is not installed")

from vla.conf.libero import SUITE_HORIZONS  # noqa: E402
from vla.evaluation.simulator.culling import Culler, View  # noqa: E402
from vla.evaluation.simulator.libero_env import CAMERAS, LiberoEnv  # noqa: E402
from vla.evaluation.simulator.runtime import list_tasks  # noqa: E402

pytestmark = pytest.mark.simulator
SIZE = 128
STATES = 4


def throw(model, data, generator: np.random.Generator, spread: float) -> None:
    """Put every joint anywhere within its limits, and the free objects around where they are, in any orientation."""
    for joint in range(model.njnt):
        address = model.jnt_qposadr[joint]
        if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
            data.qpos[address : address + 3] += generator.normal(0, spread, size=3)
            turn = generator.normal(size=4)
            data.qpos[address + 3 : address + 7] = turn / np.linalg.norm(turn)
        else:
            low, high = model.jnt_range[joint] if model.jnt_limited[joint] else (-3.0, 3.0)
            data.qpos[address] = generator.uniform(low, high)
    mujoco.mj_forward(model, data)


@pytest.mark.parametrize("suite", SUITE_HORIZONS)
def test_random_states_look_the_same(suite):
    gc.collect()  # an earlier environment's context, freed later, would take this one's from under it
    env = LiberoEnv(list_tasks(suite)[0], SIZE)
    try:
        env.reset_to(None, seed=0, render=False)
        model, data = env.sim.model._model, env.sim.data._data
        culler = Culler(model, env.sim._render_context_offscreen.vopt)
        groups, start, generator = model.geom_group.copy(), data.qpos.copy(), np.random.default_rng(0)
        hidden = 0
        for state in range(STATES):
            data.qpos[:] = start
            if state:
                throw(model, data, generator, spread=0.3 * state)
            for camera in CAMERAS:
                frames = []
                for cull in (True, False):
                    index = model.camera(camera).id
                    context = env.sim._render_context_offscreen
                    with culler.applied(context, data, index) if cull else nullcontext():
                        frames.append(env.sim.render(camera_name=camera, width=SIZE, height=SIZE))
                        hidden += int((model.geom_group != groups).sum())
                assert np.array_equal(*frames), (state, camera)
                assert frames[0].max() > 0, "nothing was drawn"
                assert np.array_equal(model.geom_group, groups)
        assert hidden > STATES * len(CAMERAS)
    finally:
        env.close()


def test_environments_frames_are_those_of_one_that_does_not_cull(soup_env):
    frames = []
    for cull in (True, False):
        soup_env.cull = cull
        frames.append(soup_env.reset_to(None, seed=3).images)
    soup_env.cull = True
    for camera in CAMERAS:
        assert np.array_equal(frames[0][camera], frames[1][camera])
        assert frames[0][camera].std() > 20


SCENE = """
<mujoco>
  <asset>
    <mesh name="rock" vertex="0 0 0  .1 0 0  0 .1 0  0 0 .1  .1 .1 .1"/>
    <material name="glossy" reflectance=".6" rgba=".2 .3 .4 1"/>
    <material name="dull" rgba=".9 .5 .1 1"/>
    <material name="glass" rgba=".1 .9 .1 .4"/>
  </asset>
  <worldbody>
    <light pos="0 0 3" castshadow="false"/>
    <camera name="eye" mode="fixed" fovy="60"/>
    {mirrors}
    {rocks}
  </worldbody>
</mujoco>
"""
BOXES = (
    '<geom type="box" size=".4 .3 .05" pos="0 0 .1" euler="10 20 30" material="glossy"/>'
    '<geom type="box" size=".3 .3 .05" pos=".8 0 .3" euler="-30 20 0" material="glossy"/>'
)
PLANE = '<geom type="plane" size="1 1 .1" material="glossy"/>'


class FakeContext:
    """As much of robosuite's context as the culler needs."""

    def __init__(self, scene, options) -> None:
        self.scn, self.vopt = scene, options


@pytest.fixture
def renderer_of() -> Iterator:
    """Makes renderers and frees them."""
    gc.collect()
    made = []

    def make(model):
        made.append(mujoco.Renderer(model, 64, 64))
        return made[-1]

    yield make
    for renderer in made:
        renderer.close()


@pytest.mark.parametrize(("mirrors", "culls"), [(BOXES, True), ("", True), (PLANE, False)])
def test_mirrors(mirrors, culls, renderer_of):
    """Rocks around a tilted mirror, seen from anywhere: also those that show only in the mirror."""
    generator = np.random.default_rng(0)
    rocks = "".join(
        '<geom type="mesh" mesh="rock" material="{}" pos="{:.3f} {:.3f} {:.3f}" euler="{:.0f} {:.0f} {:.0f}"/>'.format(
            "glass" if rock % 5 == 0 else "dull", *generator.normal(0, 0.7, size=3), *generator.uniform(0, 360, size=3)
        )
        for rock in range(40)
    )
    model = mujoco.MjModel.from_xml_string(SCENE.format(mirrors=mirrors, rocks=rocks))
    data, renderer, options = mujoco.MjData(model), renderer_of(model), mujoco.MjvOption()
    culler = Culler(model, options)
    assert culler.enabled == culls
    context, only_mirrored, mirrored = FakeContext(renderer.scene, options), 0, 0
    for _ in range(60):
        model.cam_pos[0] = generator.normal(0, 1.0, size=3)
        towards = model.cam_pos[0] - generator.normal(0, 0.2, size=3)  # a camera looks along its -z
        mujoco.mju_quatZ2Vec(model.cam_quat[0], towards)
        mujoco.mj_forward(model, data)
        frames = []
        for cull in (True, False):
            with culler.applied(context, data, 0) if cull else nullcontext():
                renderer.update_scene(data, camera="eye", scene_option=options)
                frames.append(renderer.render().copy())
        assert np.array_equal(*frames)
        if culls:
            view = culler.view(context, data, 0)
            hidden, mirror = culler.decide(data, view)
            mirrored += mirror
            only_mirrored += mirror and len(hidden) < culler.unseen(data, view).sum()
    if mirrors == BOXES:
        assert 0 < mirrored < 60 and only_mirrored > 0


def test_what_lies_outside_a_view():
    view = View(np.zeros(3), np.eye(3), np.array([1.0, 0.5]), near=0.1, far=10.0)
    small = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)])
    places = {
        (0, 0, 1): False, (0, 0, -1): True, (0, 0, 20): True, (1.1, 0, 1): False, (1.4, 0, 1): True, (-1.4, 0, 1): True,
        (0, 0.8, 1): True, (0, -0.8, 1): True, (0, 0.5, 1): False, (0, 0, 0): False,
    }  # fmt: skip
    points = np.array(list(places))[:, None] + small
    assert view.misses(points).tolist() == list(places.values())
    assert not view.misses(50 * small[None]).any()  # the camera inside of it
