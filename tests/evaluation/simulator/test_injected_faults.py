"""Faults on stand-ins: what each changes, from which step on, and that the rest of an episode stays the same."""

from types import SimpleNamespace

import fake_simulator as fake
import numpy as np
import pytest

from vla.conf import watching
from vla.evaluation.simulator.faults import gaussian_blur, multiply_quaternions
from vla.evaluation.simulator.injection import FAULTS, FaultSpec, Injection
from vla.evaluation.simulator.libero_env import Observation
from vla.evaluation.simulator.messages import Episode, Job
from vla.evaluation.simulator.playing import STOPPED, play
from vla.evaluation.simulator.protocol import Protocol

CAMERA = "agentview"
PROTOCOL = Protocol("libero_object", horizon=30, image_size=16, execute_steps=4)


def fault(name, strength=1.0, seed=0):
    return FAULTS[name](strength, CAMERA, np.random.default_rng(seed))


def observation(image):
    return Observation(np.zeros(3), np.array([0, 0, 0, 1.0]), np.zeros(2), np.zeros(7), {CAMERA: image, "other": image})


def simulator():
    """The arrays of a model with one camera and one light."""
    lamp = SimpleNamespace(ambient=np.full(3, 0.4), diffuse=np.full(3, 0.8), specular=np.full(3, 0.1))
    model = SimpleNamespace(
        cam_pos=np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]]), cam_quat=np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0]]),
        light_ambient=np.full((1, 3), 0.2), light_diffuse=np.full((1, 3), 1.0), light_specular=np.full((1, 3), 0.6),
        vis=SimpleNamespace(headlight=lamp),
    )  # fmt: skip
    wrapped = SimpleNamespace(_model=model, camera_name2id={CAMERA: 0}.__getitem__)
    return SimpleNamespace(sim=SimpleNamespace(model=wrapped)), model


class Kitchen:
    """Three objects with free joints, of which the goal names one."""

    goals = [["in", "milk_1", "basket_1_contain_region"]]
    movable_objects = ["soup_1", "milk_1", "butter_1"]

    def __init__(self):
        names = self.movable_objects
        self.inner = SimpleNamespace(objects_dict={n: SimpleNamespace(joints=[f"{n}_joint0"]) for n in names})
        self.poses = {f"{name}_joint0": np.array([0.1, 0.2, 0.3, 1, 0, 0, 0]) for name in names}
        data = SimpleNamespace(get_joint_qpos=self.poses.get, set_joint_qpos=self.poses.__setitem__,
                               set_joint_qvel=lambda name, value: None)  # fmt: skip
        self.sim = SimpleNamespace(data=data)


def test_the_configuration_knows_every_fault():
    assert tuple(FAULTS) == watching.FAULTS
    assert watching.fault_strengths(("all",)) == dict.fromkeys(FAULTS, 1.0)
    assert watching.fault_strengths(("blur:0.5", "light")) == {"blur": 0.5, "light": 1.0}
    for words, message in {
        ("fog",): "must be of camera_shift",
        ("blur:x",): "a strength",
        ("blur", "all"): "once",
    }.items():
        with pytest.raises(ValueError, match=f"faults: .*{message}"):
            watching.fault_strengths(words)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_camera_moves_and_turns_by_its_strength(strength):
    env, model = simulator()
    fault("camera_shift", strength).begin(env)
    assert np.linalg.norm(model.cam_pos[0] - [1, 0, 2]) == pytest.approx(0.05 * strength)
    assert 2 * np.degrees(np.arccos(model.cam_quat[0, 0])) == pytest.approx(5 * strength)
    assert np.linalg.norm(model.cam_quat[0]) == pytest.approx(1)
    assert model.cam_pos[1].tolist() == [0, 0, 0] and model.cam_quat[1].tolist() == [1, 0, 0, 0]


def test_quaternions_multiply():
    quarter = np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])  # about z
    assert multiply_quaternions(quarter, quarter) == pytest.approx([0, 0, 0, 1])
    i, j = np.array([0, 1.0, 0, 0]), np.array([0, 0, 1.0, 0])
    assert multiply_quaternions(i, j).tolist() == [0, 0, 0, 1] and multiply_quaternions(j, i).tolist() == [0, 0, 0, -1]


def test_light_goes_down():
    env, model = simulator()
    fault("light", 2.0).begin(env)
    assert model.light_diffuse.tolist() == [[0.25] * 3] and model.vis.headlight.diffuse.tolist() == [0.2] * 3


def test_blur_spreads_a_point_and_leaves_a_plane():
    image = np.zeros((33, 33, 3), np.uint8)
    image[16, 16] = 255
    blurred = gaussian_blur(image, 1.0)
    assert blurred[16, 16, 0] == round(255 * 0.39905**2) and blurred[16, 17, 0] == blurred[15, 16, 0] > 0
    assert np.array_equal(gaussian_blur(np.full((9, 7, 3), 93, np.uint8), 2.0), np.full((9, 7, 3), 93))


def test_the_object_of_the_task_goes_first():
    env = Kitchen()
    fault("object_removed").begin(env)
    assert {name for name, pose in env.poses.items() if pose[1] > 50} == {"milk_1_joint0"}
    fault("object_removed", 2.0).begin(env)
    assert len([name for name, pose in env.poses.items() if pose[1] > 50]) == 2


def test_gripper_stays_as_it_was_told_last():
    injection = Injection(FaultSpec("gripper_stuck", onset=(3, 3)), "episode", CAMERA)
    told = [-1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
    done = [injection.acted(None, step, np.array([0.5] * 6 + [value])) for step, value in enumerate(told)]
    assert [action[-1] for action in done] == [-1, -1, 1, 1, 1, 1]
    assert all(action[:6].tolist() == [0.5] * 6 for action in done)


def test_gripper_that_sticks_now_and_then():
    injection = Injection(FaultSpec("gripper_stuck", 0.5, onset=(1, 1)), "episode", CAMERA)
    injection.acted(None, 0, np.array([0.0] * 6 + [-1.0]))
    done = [injection.acted(None, step, np.array([0.0] * 6 + [1.0]))[-1] for step in range(1, 201)]
    assert 70 < done.count(-1.0) < 130


def test_onset_is_drawn_by_the_episode_and_not_by_the_strength():
    onsets = [Injection(FaultSpec("blur", 1.0, (10, 80)), f"episode-{i}", CAMERA).onset for i in range(300)]
    assert min(onsets) >= 10 and max(onsets) <= 80 and len(set(onsets)) > 50
    assert onsets == [Injection(FaultSpec("blur", 0.3, (10, 80)), f"episode-{i}", CAMERA).onset for i in range(300)]
    assert onsets != [Injection(FaultSpec("light", 1.0, (10, 80)), f"episode-{i}", CAMERA).onset for i in range(300)]


def test_frames_are_changed_from_the_onset_on_and_of_the_watched_camera_only():
    image = np.zeros((64, 64, 3), np.uint8)
    image[32, 32] = 255
    injection = Injection(FaultSpec("blur", onset=(5, 5)), "episode", CAMERA)
    assert injection.observed(4, observation(image)).images[CAMERA] is image and injection.begun is None
    changed = injection.observed(5, observation(image))
    assert changed.images[CAMERA].max() < 255 and changed.images["other"] is image and injection.begun == 5


def test_without_a_fault_nothing_is_touched():
    injection, action = Injection(None, "episode", CAMERA), np.zeros(7)
    seen = observation(np.zeros((4, 4, 3), np.uint8))
    assert injection.acted(None, 7, action) is action and injection.observed(7, seen) is seen
    assert injection.begun is None


# --- in an episode ---


def played(spec=None, ask=None, **options):
    env, states = fake.make("libero_object", 0, 16, PROTOCOL.simulator_cameras)
    job = Job(Episode("libero_object", 0, 1), PROTOCOL, fault=spec, **options)
    closing = np.zeros((8, 7))
    closing[:, 6] = 1.0
    return play(env, job, states[1], ask or (lambda asked: closing), lambda: None)


def test_episode_says_when_its_fault_began():
    stuck = FaultSpec("gripper_stuck", onset=(6, 6))
    assert played().onset is None and played().steps == fake.GOAL
    assert played(stuck).onset == 6 and played(stuck).status == "success"  # stuck closed
    assert played(FaultSpec("blur", onset=(20, 20))).onset is None  # over before


def test_episode_with_a_fault_plays_the_same_way_again():
    def ask(asked):
        chunk = np.zeros((8, 7))
        chunk[:, 6] = -1.0 if asked.step < 8 else 1.0
        return chunk

    spec = FaultSpec("gripper_stuck", onset=(5, 5))
    before = played(spec, ask)
    assert before.status == "failure"  # stuck open
    again = played(spec, actions=before.actions, film_every=4)
    assert again.states_hash == before.states_hash and again.film.shape[0] == 8 and again.onset == 5


def test_empty_chunk_ends_the_episode():
    outcome = played(ask=lambda asked: np.zeros((8 if asked.step < 8 else 0, 7)))
    assert (outcome.status, outcome.message, outcome.steps, len(outcome.actions)) == ("failure", STOPPED, 8, 8)
    again = played(actions=outcome.actions)
    assert again.states_hash == outcome.states_hash
    at_once = played(ask=lambda asked: np.zeros((0, 7)))
    assert at_once.actions.shape == (0, 7) and at_once.steps == 0
