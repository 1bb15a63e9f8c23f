"""Samplers: exact cover, equal ranks, any position, the published order of SplitModalitySampler."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla.data.samplers import DistributedSampler, ResumableSampler, SampleIndex, SplitModalitySampler

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/prismatic/split_modality_sampler.json").read_text())
WORKING = [(case, run) for case in GOLDEN["cases"] for run in case["runs"] if "global" in run]
BROKEN = [(case, run) for case in GOLDEN["cases"] for run in case["runs"] if "error" in run]

shapes = st.tuples(st.integers(1, 90), st.integers(1, 4), st.integers(1, 5), st.integers(0, 50))
modalities = st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=80)


def ranks(kind: type, *args: Any, world_size: int, epoch: int = 0, step: int = 0, **options: Any) -> list[list]:
    samplers = [kind(*args, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_position(epoch, step)
    streams = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(stream) for stream in streams]
    return streams


def steps_of(streams: list[list[SampleIndex]], batch: int) -> list[list[int]]:
    """What all ranks together see at each step, padding left out; `batch` is the global batch size."""
    share = batch // len(streams)
    starts = range(0, len(streams[0]), share)
    return [[i for stream in streams for i in stream[start : start + share] if not i.is_padding] for start in starts]


class TestDistributedSampler:
    @given(shapes, st.booleans())
    def test_every_sample_once_and_equal_ranks(self, shape: tuple, shuffle: bool) -> None:
        samples, world, per_rank, seed = shape
        streams = ranks(
            DistributedSampler,
            samples,
            global_batch_size=world * per_rank,
            world_size=world,
            seed=seed,
            shuffle=shuffle,
        )
        assert len({len(stream) for stream in streams}) == 1
        assert sorted(i for stream in streams for i in stream if not i.is_padding) == list(range(samples))
        assert sum(i.is_padding for stream in streams for i in stream) < world

    @given(shapes, st.integers(0, 4), st.integers(0, 100))
    def test_any_position_gives_the_tail_of_the_epoch(self, shape: tuple, epoch: int, step: int) -> None:
        samples, world, per_rank, seed = shape
        sampler = DistributedSampler(samples, global_batch_size=world * per_rank, world_size=world, seed=seed)
        sampler.set_position(epoch)
        whole = list(sampler)
        step = min(step, sampler.steps_per_epoch)
        sampler.set_position(epoch, step)
        tail = list(sampler)
        assert len(tail) == len(sampler)
        assert tail == whole[step * per_rank :]
        assert all(index.epoch == epoch for index in tail)

    @given(st.integers(1, 60), st.integers(1, 3), st.integers(0, 3))
    def test_same_steps_for_any_number_of_processes(self, samples: int, per_rank: int, epoch: int) -> None:
        batch = 12 * per_rank
        cut = [
            steps_of(ranks(DistributedSampler, samples, world_size=world, global_batch_size=batch, epoch=epoch), batch)
            for world in (1, 2, 3, 4)
        ]
        assert cut[0] == cut[1] == cut[2] == cut[3]

    def test_order_is_a_function_of_seed_and_epoch(self) -> None:
        def order(seed: int, epoch: int) -> list[int]:
            return DistributedSampler(50, global_batch_size=4, seed=seed).global_order(epoch).tolist()

        torch.manual_seed(3)
        first = order(7, 0)
        torch.manual_seed(4)
        assert order(7, 0) == first
        assert order(7, 1) != first
        assert order(8, 0) != first

    def test_last_short_step_is_cut_with_padding(self) -> None:
        streams = ranks(DistributedSampler, 9, global_batch_size=6, world_size=3, shuffle=False)
        assert streams == [[0, 1, 6], [2, 3, 7], [4, 5, 8]]
        streams = ranks(DistributedSampler, 10, global_batch_size=6, world_size=3, shuffle=False)
        assert [[int(i) for i in stream[2:] if not i.is_padding] for stream in streams] == [[6, 7], [8, 9], []]
        assert [len(stream) for stream in streams] == [4, 4, 4]

    def test_state_goes_to_another_number_of_processes(self) -> None:
        before = DistributedSampler(50, global_batch_size=8, rank=1, world_size=2)
        before.set_position(3, 2)
        after = DistributedSampler(50, global_batch_size=8, rank=3, world_size=4)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert (after.epoch, after.step) == (3, 2)
        for other in (DistributedSampler(50, global_batch_size=8, seed=8), DistributedSampler(51, global_batch_size=8)):
            with pytest.raises(ValueError, match="checkpoint was written with"):
                other.load_state_dict(before.state_dict())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_samples": 0, "global_batch_size": 1}, "at least one sample"),
            ({"num_samples": 9, "global_batch_size": 3, "world_size": 2}, "multiple of the number of processes"),
            ({"num_samples": 9, "global_batch_size": 0}, "multiple"),
            ({"num_samples": 9, "global_batch_size": 2, "rank": 2, "world_size": 2}, "rank"),
        ],
    )
    def test_arguments_are_checked(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            DistributedSampler(**options)

    def test_no_position_beyond_the_epoch(self) -> None:
        sampler = DistributedSampler(9, global_batch_size=4)
        sampler.set_position(0, 3)
        assert (list(sampler), len(sampler)) == ([], 0)
        for position in ((0, 4), (0, -1), (-1, 0)):
            with pytest.raises(ValueError, match="no step"):
                sampler.set_position(*position)


class TestSplitModalitySampler:
    @pytest.mark.parametrize(("case", "run"), WORKING, ids=lambda value: str(value.get("pattern", value.get("epoch"))))
    def test_published_order(self, case: dict, run: dict) -> None:
        options = {"global_batch_size": case["global_batch_size"], "seed": run["seed"]}
        lengths, world = case["modality_lengths"], case["world_size"]
        streams = ranks(SplitModalitySampler, lengths, world_size=world, epoch=run["epoch"], **options)
        assert streams == run["ranks"]
        assert (
            SplitModalitySampler(lengths, world_size=world, **options).global_order(run["epoch"]).tolist()
            == (run["global"])
        )

    @pytest.mark.parametrize(("case", "run"), BROKEN)
    def test_cases_that_the_published_one_refuses(self, case: dict, run: dict) -> None:
        """Few examples of a kind work; a batch that can't be cut is still refused, with the reason."""
        options = {"global_batch_size": case["global_batch_size"], "seed": run["seed"]}
        if case["global_batch_size"] % case["world_size"]:
            with pytest.raises(ValueError, match="multiple of the number of processes"):
                SplitModalitySampler(case["modality_lengths"], world_size=case["world_size"], **options)
            return
        streams = ranks(SplitModalitySampler, case["modality_lengths"], world_size=case["world_size"], **options)
        assert {i for stream in streams for i in stream} == set(range(case["n"]))

    @given(modalities, st.integers(1, 4), st.integers(1, 4), st.integers(0, 5))
    def test_cover_pure_batches_and_equal_ranks(self, table: list, world: int, per_rank: int, epoch: int) -> None:
        batch = world * per_rank
        streams = ranks(SplitModalitySampler, table, world_size=world, global_batch_size=batch, epoch=epoch)
        assert len({len(stream) for stream in streams}) == 1
        assert {i for stream in streams for i in stream} == set(range(len(table)))
        for step in steps_of(streams, batch):
            assert len(step) == batch
            assert len({table[i][0] for i in step}) == 1
        extra = sum(map(len, streams)) - len(table)
        assert extra < 2 * batch

    @given(modalities, st.integers(0, 3), st.integers(0, 100))
    def test_any_position_gives_the_tail_of_the_epoch(self, table: list, epoch: int, step: int) -> None:
        sampler = SplitModalitySampler(table, global_batch_size=6, rank=1, world_size=2)
        sampler.set_position(epoch)
        whole = list(sampler)
        step = min(step, sampler.steps_per_epoch)
        sampler.set_position(epoch, step)
        assert list(sampler) == whole[3 * step :]

    @given(modalities, st.integers(0, 3))
    def test_steps_hold_the_same_examples_for_any_number_of_processes(self, table: list, epoch: int) -> None:
        cut = [
            steps_of(ranks(SplitModalitySampler, table, world_size=world, global_batch_size=12, epoch=epoch), 12)
            for world in (1, 2, 4)
        ]
        assert [[sorted(step) for step in steps] for steps in cut[1:]] == [[sorted(step) for step in cut[0]]] * 2

    @pytest.mark.parametrize("kind", [True, False])
    def test_one_modality_only(self, kind: bool) -> None:
        sampler = SplitModalitySampler([(kind, 3)] * 10, global_batch_size=4)
        assert (len(list(sampler)), sampler.steps_per_epoch) == (12, 3)

    def test_takes_an_array(self) -> None:
        table = [(True, 5), (False, 2), (True, 9)]
        order = SplitModalitySampler(table, global_batch_size=2).global_order(0)
        assert np.array_equal(SplitModalitySampler(np.array(table), global_batch_size=2).global_order(0), order)
        with pytest.raises(ValueError, match="pairs"):
            SplitModalitySampler([1, 2], global_batch_size=2)

    def test_a_million_examples_take_a_moment(self) -> None:
        random = np.random.default_rng(0)
        table = np.stack([random.random(1_000_000) < 0.7, random.integers(1, 2000, 1_000_000)], axis=1)
        sampler = SplitModalitySampler(table, global_batch_size=128, world_size=8)
        assert np.unique(sampler.global_order(0)).size == 1_000_000


def test_sample_index_survives_pickling() -> None:
    index = pickle.loads(pickle.dumps(SampleIndex(5, 2, True)))
    assert (index, index.epoch, index.is_padding) == (5, 2, True)
    assert isinstance(index, SampleIndex)


def test_base_needs_an_order() -> None:
    with pytest.raises(NotImplementedError):
        ResumableSampler(3, global_batch_size=1).global_order(0)
