from dataclasses import replace

import numpy as np
import pytest
import torch

from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.components import ChunkHeadConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.conventions import LIBERO_CONVENTIONS
from vla.data.processor import Processor
from vla.data.statistics import ArrayStatistics
from vla.errors import UserError
from vla.evaluation.simulator.chunks import environment_action
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.models.materialize import get_model
from vla.serving.policy import ExpertPolicy, Policy, RandomPolicy, ZeroPolicy, rng_seed
from vla.serving.preparation import stored_image_size


def statistics(size, low, high):
    return ArrayStatistics.of(np.random.default_rng(0).uniform(low, high, (500, size)))


def make_policy(conventions=LIBERO_CONVENTIONS, max_batch=None, **processor):
    config = ProcessorConfig(image_size=28, proprio=True, **processor)
    model = VGGTTinyConfig(processor=config, action_head=ChunkHeadConfig(chunk_size=8, hidden_dim=32))
    stats = {"actions": statistics(7, -0.5, 0.9), "proprio": statistics(8, -1, 1)}
    made = Processor(config, 8, stats, conventions)
    return Policy(PretrainConfig(model=model), made, get_model(model, seed=3), max_batch=max_batch)


def asked(step=0, instruction="pick up the milk", images=2, init_id=0):
    frames = np.random.default_rng(step + 10 * init_id).integers(0, 255, (images, 32, 32, 3), dtype=np.uint8)
    return PolicyInput(frames, np.linspace(-1, 1, 8), instruction, Episode("libero_object", 0, init_id), step)


@pytest.fixture(scope="module")
def policy():
    return make_policy()


def test_actions_have_the_chunk_shape_and_are_repeatable(policy):
    inputs = [asked(0), asked(8, "pick up the soup")]
    actions = policy.act(inputs)
    assert actions.shape == (2, 8, 7) and np.isfinite(actions).all()
    assert np.array_equal(actions, policy.act(inputs))


def test_company_changes_no_bit_on_a_cpu(policy):
    inputs = [asked(init_id=i) for i in range(3)]
    assert np.array_equal(policy.act(inputs)[1], policy.act(inputs[1:2])[0])


def test_batches_agree_with_single_predictions(policy):
    inputs = [asked(init_id=i, instruction=text) for i, text in enumerate(["one", "another instruction", "one"])]
    assert np.allclose(make_policy(max_batch=16).act(inputs), policy.act(inputs), atol=1e-5)


def test_prediction_is_that_of_the_model_on_the_same_batch(policy):
    """The language model's result, computed once, changes nothing."""
    item = asked(3)
    batch = policy.batch([item])
    batch.features = {}
    with torch.no_grad():
        expected = policy.model.predict(policy.task.prepare(batch, "cpu"))
    assert np.allclose(policy.to_environment(expected)[0], policy.act([item])[0], atol=1e-6)


def test_instruction_and_image_matter(policy):
    base = policy.act([asked(0)])
    assert not np.allclose(base, policy.act([asked(0, "open the drawer")]))
    assert not np.allclose(base, policy.act([asked(1)]))
    swapped = asked(0)
    swapped = replace(swapped, images=swapped.images[::-1].copy())  # camera order
    assert not np.allclose(base, policy.act([swapped]))


@pytest.mark.parametrize(("is_open", "closed"), [(-1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
def test_gripper_sign_survives_the_round_trip(is_open, closed):
    """Whatever the files' convention, what was recorded as closing closes in the simulator."""
    policy = make_policy(replace(LIBERO_CONVENTIONS, gripper_open=is_open, gripper_closed=closed))
    stored = np.zeros((2, 7), np.float32)
    stored[:, -1] = is_open, closed
    model_space = policy.processor.normalize_actions(stored)
    commands = [environment_action(row) for row in policy.to_environment(torch.from_numpy(model_space))]
    assert [command[-1] for command in commands] == [-1.0, 1.0]


def test_motion_survives_the_round_trip():
    policy = make_policy()
    stats = policy.processor.statistics["actions"]
    low, high = np.array(stats.q01), np.array(stats.q99)
    stored = np.linspace(low, high, 9).astype(np.float32)
    back = policy.to_environment(torch.from_numpy(policy.processor.normalize_actions(stored)))
    assert np.allclose(back[:, :6], stored[:, :6], atol=1e-6)


def test_images_are_turned_as_the_checkpoint_says():
    """A bright upper left corner of the scene, seen in the simulator's bottom-up frame."""
    frame = np.zeros((1, 32, 32, 3), np.uint8)
    frame[0, -8:, :8] = 255  # the last rows of memory are the top of the picture
    item = replace(asked(), images=np.concatenate([frame, frame]))
    corners = {"upright": (0, 0), "rotate_180": (0, -1), "raw": (-1, 0)}
    for orientation, (row, column) in corners.items():
        policy = make_policy(orientation=orientation)
        seen = policy.task.prepare(policy.batch([item]), "cpu").images[0, 0, 0]
        assert seen[row, column] == 1.0 and seen.mean() < 0.2


def test_noise_is_a_function_of_episode_and_step():
    assert rng_seed(asked(4)) == rng_seed(asked(4))
    assert len({rng_seed(asked(4)), rng_seed(asked(5)), rng_seed(asked(4, init_id=1))}) == 3
    assert 0 <= rng_seed(asked(4)) < 2**63


def test_baselines():
    inputs = [asked(0), asked(8)]
    zero = ZeroPolicy().act(inputs)
    assert zero.shape == (2, 8, 7) and not zero[..., :6].any() and (zero[..., 6] == -1).all()
    random = RandomPolicy().act(inputs)
    assert np.array_equal(random, RandomPolicy().act(inputs)) and not np.array_equal(random[0], random[1])
    assert np.abs(random).max() <= 1
    with pytest.raises(TypeError):
        ExpertPolicy().act(inputs)


def test_frames_are_rendered_as_large_as_the_training_frames_were(policy):
    with pytest.raises(UserError, match="image_size: the size of the training frames is not known; pass --image_size"):
        stored_image_size(policy)
    assert stored_image_size(make_policy(replace(LIBERO_CONVENTIONS, image_shape=(128, 128)))) == 128
    with pytest.raises(UserError, match="was 120x160"):
        stored_image_size(make_policy(replace(LIBERO_CONVENTIONS, image_shape=(120, 160))))
