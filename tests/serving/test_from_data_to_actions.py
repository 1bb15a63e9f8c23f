"""What makes policies fail, in one piece: from recorded files through the evaluation to the simulator's actions.

The policy here knows its training data by heart. Anything that is off by one, swapped, mirrored or scaled between
training and evaluation makes what it sees, or what is executed, differ from the file.
"""

import h5py
import numpy as np
import pytest
import torch

from vla.conf.datasets import LiberoConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.components import ChunkHeadConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.materialize import get_datasets
from vla.evaluation.simulator.libero_env import Observation
from vla.evaluation.simulator.messages import Episode, Job
from vla.evaluation.simulator.playing import play
from vla.evaluation.simulator.protocol import Protocol
from vla.models.materialize import get_model
from vla.serving.policy import Policy

LENGTH, SIZE, CHUNK = 21, 16, 4
CAMERAS = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}
INSTRUCTION = "pick up the milk"


def frame(camera, step):
    """uint8 [SIZE, SIZE, 3] that shows camera, step, and which way up it is."""
    picture = np.full((SIZE, SIZE, 3), 5 * step + 100 * list(CAMERAS).index(camera), np.uint8)
    picture[0, :, 1] = 255
    picture[:, 0, 2] = 255
    return picture


class Recorded:
    """An environment that senses what the file holds at every step, whatever it is told to do."""

    task, reset_state = None, np.zeros(3)

    def reset_to(self, initial_state, seed, wait_steps=10, render=True):
        self.steps = 0
        return self.observe(render)

    @property
    def state(self):
        return np.array([float(self.steps)])

    def step(self, action, render=True):
        self.steps += 1
        return self.observe(render), False

    def observe(self, render):
        # The hand's camera comes first, so that only asking by name gives the right order.
        images = {simulated: frame(name, self.steps) for name, simulated in reversed(CAMERAS.items()) if render}
        angle = 0.1 + 0.05 * self.steps
        quat = np.array([np.sin(angle / 2), 0.0, 0.0, np.cos(angle / 2)])
        fingers = np.array([0.04, -0.04]) - 0.001 * self.steps
        return Observation(np.array([0.01, 0.02, 0.03]) * self.steps, quat, fingers, np.zeros(7), images)


@pytest.fixture
def root(tmp_path):
    """One demonstration, with axis-angle orientations as files have them."""
    actions = np.random.default_rng(0).uniform(-0.9, 0.9, (LENGTH, 7))
    actions[:, 6] = np.where(np.arange(LENGTH) % 7 < 3, -1.0, 1.0)
    steps = np.arange(LENGTH)[:, None]
    with h5py.File(tmp_path / "pick_up_the_milk_demo.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["obs_alignment"] = "before_action"
        demo = data.create_group("demo_0")
        demo["actions"] = actions
        demo["obs/ee_pos"] = np.array([0.01, 0.02, 0.03]) * steps
        demo["obs/ee_ori"] = np.array([1.0, 0.0, 0.0]) * (0.1 + 0.05 * steps)
        demo["obs/gripper_states"] = np.array([0.04, -0.04]) - 0.001 * steps
        for camera in CAMERAS:
            demo[f"obs/{camera}_rgb"] = np.stack([frame(camera, step) for step in range(LENGTH)])
    return tmp_path


class ByHeart(Policy):
    """Compares what it is shown with the training sample of the step, and answers with that sample's actions."""

    def know(self, datasets):
        self.datasets, self.asked = datasets, []

    def predict(self, batch):
        (step,) = self.expected_steps
        trained = self.datasets.collator([self.datasets.train[step]])
        assert torch.equal(batch.images, trained.images)
        assert batch.instructions == trained.instructions == [INSTRUCTION]
        assert torch.allclose(batch.proprio, trained.proprio, atol=1e-6)
        self.asked.append(step)
        return trained.actions

    def act(self, inputs):
        self.expected_steps = [asked.step for asked in inputs]
        return super().act(inputs)


@pytest.mark.parametrize("normalization", ["bounds_q99", "bounds", "mean_std"])
@pytest.mark.parametrize(
    ("cameras", "execute_steps"),
    [(("agentview", "eye_in_hand"), CHUNK), (("eye_in_hand", "agentview"), 3), (("eye_in_hand",), 1)],
)
def test_policy_that_knows_the_data_sees_it_and_executes_it(root, cameras, execute_steps, normalization):
    window = ProcessorConfig(
        image_size=28, proprio=True, cameras=cameras, num_frames=2, frame_stride=3, normalization=normalization
    )
    model = VGGTTinyConfig(processor=window, action_head=ChunkHeadConfig(chunk_size=CHUNK, hidden_dim=32))
    data = LiberoConfig(root=root, validation_episodes=0)
    datasets = get_datasets(data, model)
    policy = ByHeart(PretrainConfig(model=model, dataset=data), datasets.processor, get_model(model, seed=1))
    policy.know(datasets)
    protocol = Protocol(
        "libero_object", LENGTH, image_size=SIZE, cameras=cameras, num_frames=2, frame_stride=3,
        execute_steps=execute_steps,
    )  # fmt: skip
    job = Job(Episode("libero_object", 0, 0), protocol, INSTRUCTION)
    outcome = play(Recorded(), job, np.zeros(3), lambda asked: policy.act([asked])[0], lambda: None)
    with h5py.File(root / "pick_up_the_milk_demo.hdf5") as file:
        recorded = file["data/demo_0/actions"][()]
    if normalization == "bounds_q99":  # rarer motions are cut off, as OpenVLA does
        limits = datasets.processor.statistics["actions"]
        recorded[:, :6] = np.clip(recorded[:, :6], limits.q01[:6], limits.q99[:6])
    assert policy.asked == list(range(0, LENGTH, execute_steps))
    np.testing.assert_allclose(outcome.actions, recorded, atol=1e-6)
