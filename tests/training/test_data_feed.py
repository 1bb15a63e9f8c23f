"""Which sampler a run takes, and generators that nothing disturbs."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import toy_config, toy_datasets

from vla.conf.pretrain import LoaderConfig
from vla.conf.stage import Stage
from vla.data.samplers import DistributedSampler, SplitModalitySampler
from vla.overwatch.distributed import DistState
from vla.training.data_feed import DataFeed, get_sampler
from vla.training.metrics import StepClock
from vla.training.seeding import get_rng_state, preserved_rng, seed_everything, set_rng_state
from vla.training.state import TrainerState


@pytest.mark.parametrize(
    ("stage", "choice", "has_lengths", "expected"),
    [
        (Stage.FINETUNE, "auto", True, SplitModalitySampler),
        (Stage.FULL_FINETUNE, "auto", True, SplitModalitySampler),
        (Stage.ALIGN, "auto", True, DistributedSampler),
        (Stage.ALIGN, "always", True, SplitModalitySampler),
        (Stage.FINETUNE, "never", True, DistributedSampler),
        (Stage.FINETUNE, "auto", False, DistributedSampler),
        (Stage.FINETUNE, "always", False, DistributedSampler),
    ],
)
def test_choice_of_sampler(tmp_path, stage, choice, has_lengths, expected):
    config = toy_config(tmp_path / "run")
    config = replace(config, loader=LoaderConfig(split_modality=choice))
    finetune = config.model.finetune
    config = replace(config, model=replace(config.model, full_finetune=finetune), stage=stage)
    data = toy_datasets().train
    if has_lengths:
        data.modality_lengths = lambda: [(index % 2 == 0, 10 + index) for index in range(len(data))]
    assert type(get_sampler(data, config, DistState())) is expected


def test_windows_start_anywhere(tmp_path):
    def ids(step: int) -> list:
        feed = DataFeed(toy_datasets(), toy_config(tmp_path / "run"), DistState(), StepClock())
        state = TrainerState(total_steps=10, steps_per_epoch=feed.steps_per_epoch)
        for _ in range(step):
            state.advance()
        seen = []
        for window in feed.windows(state):
            seen.append([batch.sample_ids.tolist() for batch in window])
            state.advance()
        return seen

    everything = ids(0)
    assert len(everything) == 10 and sorted(sum(sum(everything[:4], []), [])) == list(range(28))
    for step in (1, 4, 6, 10):
        assert ids(step) == everything[step:]


def test_samples_of_the_last_step(tmp_path):
    feed = DataFeed(toy_datasets(29), toy_config(tmp_path / "run"), DistState(), StepClock())
    assert [feed.samples_in_step(step) for step in range(4)] == [8, 8, 8, 5]


def draw() -> tuple:
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(1).item()


def test_generators_go_back(tmp_path):
    seed_everything(3)
    draw()  # an odd number of Gaussians leaves one waiting
    state = get_rng_state()
    with preserved_rng():
        draw()
    first = draw()
    seed_everything(4)
    set_rng_state(state)
    assert draw() == first
    seed_everything(3, rank=1)
    assert draw() != first
