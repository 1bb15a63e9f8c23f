"""The check must pass for the evaluation as it is, and fail for each thing that makes policies fail."""

from dataclasses import replace

import numpy as np
import pytest

from vla.conf.datasets import LiberoMiniConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.conf.models.components import ChunkHeadConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.materialize import get_datasets
from vla.models.materialize import get_model
from vla.serving import preprocessing_check
from vla.serving.policy import Policy
from vla.serving.preparation import stored_image_size
from vla.serving.preprocessing_check import check_preprocessing

MINI = replace(LiberoMiniConfig(), max_episodes_per_task=2, validation_episodes=0)
pytestmark = pytest.mark.skipif(not list(MINI.root.glob("*.hdf5")), reason="libero-mini is not here")


@pytest.fixture(scope="module")
def policy():
    window = ProcessorConfig(image_size=28, proprio=True, num_frames=2, frame_stride=3, orientation="rotate_180")
    model = VGGTTinyConfig(processor=window, action_head=ChunkHeadConfig(chunk_size=4, hidden_dim=32))
    datasets = get_datasets(MINI, model)
    return Policy(PretrainConfig(model=model, dataset=MINI), datasets.processor, get_model(model, seed=1))


def test_evaluation_prepares_as_training_does(policy):
    check = check_preprocessing(policy)
    assert check.status == "passed", check.detail
    assert stored_image_size(policy) == 128


def turned(item):
    return replace(item, images=item.images[:, ::-1].copy())


def cameras_swapped(item):
    return replace(item, images=item.images.reshape(2, 2, *item.images.shape[1:])[:, ::-1].reshape(item.images.shape))


def frames_swapped(item):
    return replace(item, images=item.images.reshape(2, 2, *item.images.shape[1:])[::-1].reshape(item.images.shape))


def other_rotation(item):
    return replace(item, proprio=np.concatenate([item.proprio[:3], item.proprio[5:2:-1], item.proprio[6:]]))


def other_words(item):
    return replace(item, instruction=item.instruction.upper())


@pytest.mark.parametrize("mistake", [turned, cameras_swapped, frames_swapped, other_rotation, other_words])
def test_mistakes_are_found(policy, monkeypatch, mistake):
    right = preprocessing_check.observed
    monkeypatch.setattr(preprocessing_check, "observed", lambda *arguments: mistake(right(*arguments)))
    check = check_preprocessing(policy)
    assert check.status == "failed" and "_demo.hdf5 demo_0 step" in check.detail


def test_missing_data_is_said(policy, tmp_path):
    assert check_preprocessing(policy, tmp_path).status == "skipped"
