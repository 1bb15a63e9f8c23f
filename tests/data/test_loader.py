"""The loader: the same batches for any number of workers, and errors that say which sample."""

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from libero_files import COMPRESSED, open_libero, write_task

from vla.batches import ActionBatch
from vla.data.collators import ActionCollator
from vla.data.errors import BadEpisode, SampleError
from vla.data.loader import get_dataloader, mix_seed
from vla.data.samplers import DistributedSampler


class Toy:
    """Samples that tell the process that read them; sample `bad` fails."""

    def __init__(self, size: int = 20, bad: int | None = None, error: Exception | None = None) -> None:
        self.size, self.bad, self.error = size, bad, error

    def __len__(self) -> int:
        return self.size

    def sample_label(self, index: int) -> str:
        return f"toy_demo.hdf5 demo_0 t={index}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == self.bad:
            raise self.error
        return {
            "images": np.full((1, 3, 2, 2), index, dtype=np.uint8), "instruction": str(os.getpid()),
            "actions": np.full((2, 7), index, dtype=np.float32), "action_mask": np.array([True, False]),
        }  # fmt: skip


def load(dataset: Any, batch_size: int = 4, workers: int = 0, epochs: int = 1, **options: Any) -> Iterator[ActionBatch]:
    names = ("global_batch_size", "rank", "world_size", "shuffle")
    sampler_options = {"global_batch_size": batch_size, **{k: options.pop(k) for k in names if k in options}}
    sampler = DistributedSampler(len(dataset), **sampler_options)
    loader = get_dataloader(
        dataset, sampler, ActionCollator(), batch_size=batch_size, num_workers=workers, prefetch_factor=2, **options
    )
    for epoch in range(epochs):
        sampler.set_position(epoch)
        assert len(loader) == -(-len(sampler) // batch_size)
        yield from loader


def assert_equal(one: ActionBatch, other: ActionBatch) -> None:
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 1},
        pytest.param({"workers": 3}, marks=pytest.mark.filterwarnings("ignore:This DataLoader will create")),
        {"workers": 1, "start_method": "spawn"},
    ],
)
def test_workers_make_no_difference(tmp_path: Path, options: dict) -> None:
    write_task(tmp_path, image_options=COMPRESSED)
    write_task(tmp_path, "open_the_drawer")
    dataset = open_libero(tmp_path, {"num_frames": 2}).train
    alone = list(load(dataset, 8, epochs=2))
    with_workers = list(load(dataset, 8, epochs=2, **options))
    assert len(alone) == len(with_workers) > 4
    for one, other in zip(alone, with_workers, strict=True):
        assert_equal(one, other)


def test_batch_of_libero(libero_root: Path) -> None:
    batch = next(load(open_libero(libero_root, {"num_frames": 2}).train, 8, workers=1))
    assert isinstance(batch, ActionBatch)
    assert (batch.images.shape, batch.images.dtype) == ((8, 4, 3, 8, 10), torch.uint8)
    assert (batch.actions.shape, batch.actions.dtype) == ((8, 4, 7), torch.float32)
    assert (batch.action_mask.shape, batch.action_mask.dtype) == ((8, 4), torch.bool)
    assert (batch.proprio.shape, batch.proprio.dtype) == ((8, 8), torch.float32)
    assert (batch.rng_seeds.dtype, batch.sample_ids.dtype, len(batch.instructions)) == (torch.int64, torch.int64, 8)
    assert batch.actions.is_contiguous()
    batch.actions[0] = 0  # what came from a worker can be written to


def test_large_tensors_come_through_workers(libero_root: Path) -> None:
    dataset = open_libero(libero_root, {"num_frames": 2}).train
    alone, worker = (next(load(dataset, 72, workers=workers)) for workers in (0, 1))
    assert alone.images.nbytes > 2**16
    assert_equal(alone, worker)


def test_workers_stay_for_the_next_epoch() -> None:
    processes = {name for batch in load(Toy(), workers=2, epochs=3) for name in batch.instructions}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes


def test_seeds_depend_on_run_epoch_and_sample_only() -> None:
    def seeds(**options: Any) -> dict[tuple[int, int], int]:
        found = {}
        for number, batch in enumerate(load(Toy(), epochs=2, **options)):
            for sample, seed in zip(batch.sample_ids.tolist(), batch.rng_seeds.tolist(), strict=True):
                found[number // 5, sample] = seed
        return found

    first = seeds(seed=7)
    assert len(first) == len(set(first.values())) == 40
    assert seeds(seed=7, workers=2, shuffle=False) == first
    assert set(seeds(seed=8).values()).isdisjoint(first.values())
    assert first[1, 3] == mix_seed(7, 1, 3)
    assert all(0 <= value < 2**63 for value in first.values())


def test_padding_is_masked_out() -> None:
    last = [list(load(Toy(9), 2, global_batch_size=6, rank=rank, world_size=3, shuffle=False))[-1] for rank in range(3)]
    assert [batch.sample_ids.tolist() for batch in last] == [[6], [7], [8]]
    last = [list(load(Toy(8), 2, global_batch_size=6, rank=rank, world_size=3, shuffle=False))[-1] for rank in range(3)]
    assert [batch.action_mask.any(dim=1).tolist() for batch in last] == [[True], [True], [False]]
    assert last[0].action_mask.tolist() == [[True, False]]


def test_global_random_numbers_are_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(load(Toy(), workers=1))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("workers", [0, 2])
class TestErrors:
    def test_bad_episode_arrives_as_it_was(self, workers: int) -> None:
        error = BadEpisode("a_demo.hdf5: demo_3: actions contain NaN at step 17")
        with pytest.raises(BadEpisode) as caught:
            list(load(Toy(bad=11, error=error), workers=workers))
        assert str(caught.value) == str(error)

    def test_other_error_names_the_sample(self, workers: int) -> None:
        with pytest.raises(SampleError) as caught:
            list(load(Toy(bad=11, error=KeyError("x\ny")), workers=workers))
        assert str(caught.value) == r"toy_demo.hdf5 demo_0 t=11: KeyError: 'x\ny'"
        assert "in __getitem__" in caught.value.details

    def test_error_that_cannot_be_pickled(self, workers: int) -> None:
        class LocalError(Exception):
            pass

        with pytest.raises(SampleError, match="t=11: LocalError: no"):
            list(load(Toy(bad=11, error=LocalError("no")), workers=workers))

    def test_workers_stop_at_once_and_start_again(self, workers: int) -> None:
        data = Toy(bad=11, error=BadEpisode("x"))
        sampler = DistributedSampler(len(data), global_batch_size=4, shuffle=False)
        loader = get_dataloader(data, sampler, ActionCollator(), batch_size=4, num_workers=workers)
        for _ in range(2):
            batches = iter(loader)
            assert [next(batches).sample_ids[0].item() for _ in range(2)] == [0, 4]
            with pytest.raises(BadEpisode):
                next(batches)
            assert not multiprocessing.active_children()

    def test_collator_error(self, workers: int) -> None:
        def refuse(samples: list) -> None:
            raise ValueError("shapes differ")

        sampler = DistributedSampler(4, global_batch_size=2, shuffle=False)
        loader = get_dataloader(Toy(4), sampler, refuse, batch_size=2, num_workers=workers)
        with pytest.raises(SampleError, match=r"batch of samples \[0, 1\]: ValueError: shapes differ"):
            list(loader)

    def test_broken_label_does_not_hide_the_error(self, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Toy, "sample_label", lambda self, index: 1 / 0)
        with pytest.raises(SampleError, match="sample 11: OSError: gone"):
            list(load(Toy(bad=11, error=OSError("gone")), workers=workers))


def test_batch_size_must_fit_the_share() -> None:
    for batch_size in (0, 3, 16):
        with pytest.raises(ValueError, match=r"batch_size must divide .* \(8\), got"):
            get_dataloader(Toy(), DistributedSampler(20, global_batch_size=8), ActionCollator(), batch_size=batch_size)


def test_images_of_any_layout_are_stacked() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    samples = [Toy()[1] | {"images": images}, Toy()[2] | {"images": images + 1}]
    last = [
        s | {"images": np.ascontiguousarray(s["images"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)} for s in samples
    ]
    one, other = ActionCollator()(samples), ActionCollator()(last)
    assert torch.equal(one.images, other.images)
    assert one.images.shape == (2, 2, 3, 4, 5)
    assert one.proprio is None
    assert one.rng_seeds is None
