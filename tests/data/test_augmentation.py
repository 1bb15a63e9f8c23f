"""Training images changed at random: by the sample's seed alone, in the published order, and never held-out ones."""

import colorsys
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from libero_files import open_libero

from vla.conf.datasets import LiberoConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.base import ProcessorConfig
from vla.data.augmentation import BRIGHTNESS, CONTRAST, DRAWS, HUE, SATURATION, augment, change, draw
from vla.data.datasets.libero import LiberoDataset
from vla.data.loader import get_dataloader
from vla.data.materialize import Datasets, get_datasets
from vla.data.published_images import center_crop
from vla.data.samplers import DistributedSampler
from vla.errors import UserError
from vla.training.tasks.action import ActionTask

AREA = 0.9


def pictures(count: int, size: int = 24, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator).float()


def as_published(image: np.ndarray, draws: np.ndarray, area: float) -> np.ndarray:
    """One picture [3, H, W] after one operation at a time, pixel by pixel in float64."""
    limits = [(-BRIGHTNESS, BRIGHTNESS), CONTRAST, SATURATION, (-HUE, HUE)]
    delta, contrast, saturation, hue = (
        low + (high - low) * u for (low, high), u in zip(limits, draws[2:], strict=True)
    )
    pixels, size, side = image / 255, image.shape[1], math.sqrt(area)
    places = [draws[i] * (1 - side) * (size - 1) + side * np.arange(size) for i in range(2)]
    for axis in (1, 2):
        lines = np.moveaxis(pixels, axis, -1)
        read = [np.interp(places[axis - 1], np.arange(size), line) for line in lines.reshape(-1, size)]
        pixels = np.moveaxis(np.array(read).reshape(lines.shape), -1, axis)
    pixels = np.clip(pixels + delta, 0, 1)
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    pixels = np.clip((pixels - mean) * contrast + mean, 0, 1)
    for y in range(size):
        for x in range(size):
            h, s, v = colorsys.rgb_to_hsv(*pixels[:, y, x])
            pixels[:, y, x] = colorsys.hsv_to_rgb(h, min(s * saturation, 1), v)
            h, s, v = colorsys.rgb_to_hsv(*pixels[:, y, x])
            pixels[:, y, x] = colorsys.hsv_to_rgb((h + hue) % 1, s, v)
    return np.floor(pixels * 255.5)


class TestChange:
    def test_order_and_limits_are_the_published_ones(self) -> None:
        images = pictures(8)
        draws = torch.rand(8, DRAWS, generator=torch.Generator().manual_seed(1))
        draws[0], draws[1] = 0.0, 1.0  # the limits
        seen = change(images, draws, AREA)
        expected = np.stack(
            [as_published(i, d, AREA) for i, d in zip(images.double().numpy(), draws.double().numpy(), strict=True)]
        )
        assert np.abs(seen.numpy() - expected).max() <= 1  # float32 may round to the other side
        assert (seen.numpy() == expected).mean() > 0.999

    def test_draws_in_the_middle_change_nothing_but_crop_the_middle(self) -> None:
        images, middle = pictures(3), torch.full((3, DRAWS), 0.5)
        assert torch.equal(change(images, middle, None), images)
        assert torch.equal(change(images, middle, 1.0), images)
        assert (change(images, middle, AREA) - center_crop(images, AREA)).abs().max() <= 1

    def test_grey_stays_grey_and_the_range_is_kept(self) -> None:
        grey = pictures(6)[:, :1].expand(-1, 3, -1, -1)
        seen = change(grey, torch.rand(6, DRAWS, generator=torch.Generator().manual_seed(2)), AREA)
        assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 1], seen[:, 2])
        for flat in (0.0, 255.0):
            seen = change(torch.full((2, 3, 8, 8), flat), torch.tensor([[0.0] * DRAWS, [1.0] * DRAWS]), AREA)
            assert seen.min() >= 0 and seen.max() <= 255 and torch.equal(seen, seen.round())

    def test_the_window_is_where_it_was_drawn(self) -> None:
        """Brightness that grows along each axis tells the place that a pixel was read from."""
        size, side = 33, math.sqrt(AREA)
        ramp = torch.arange(size).float() * 7
        image = torch.stack([ramp[:, None].expand(size, size), ramp.expand(size, size), torch.zeros(size, size)])[None]
        for row, column in ((0.0, 0.0), (1.0, 0.25), (0.3, 1.0)):
            draws = torch.tensor([[row, column, 0.5, 0.5, 0.5, 0.5]])
            seen = change(image, draws, AREA)[0]
            for channel, place in ((0, row), (1, column)):
                first = place * (1 - side) * (size - 1)
                ends = [7 * first, 7 * (first + side * (size - 1))]
                assert seen[channel, 0, 0].item() == pytest.approx(ends[0], abs=1)
                assert seen[channel, -1, -1].item() == pytest.approx(ends[1], abs=1)


class TestDraws:
    def test_depend_on_the_seed_alone(self) -> None:
        seeds = torch.tensor([5, 2**62 + 3, 5, 0])
        draws = draw(seeds, 2)
        assert draws.shape == (4, 2, DRAWS) and draws.min() >= 0 and draws.max() < 1
        assert torch.equal(draws[0], draws[2]) and len(draws.flatten().unique()) == 3 * 2 * DRAWS
        state = torch.get_rng_state()
        assert torch.equal(draw(seeds.flip(0)[:2], 2), draws.flip(0)[:2])
        assert torch.equal(torch.get_rng_state(), state)

    def test_are_not_those_of_an_action_head(self) -> None:
        same_seed = torch.rand(DRAWS, generator=torch.Generator().manual_seed(5))
        assert not torch.equal(draw(torch.tensor([5]), 1)[0, 0], same_seed)

    def test_an_image_looks_the_same_in_any_batch(self) -> None:
        images, seeds = pictures(8).unflatten(0, (4, 2)), torch.tensor([11, 12, 13, 14])
        whole = augment(images, seeds, AREA, 2)
        for row in range(4):
            assert torch.equal(augment(images[row : row + 1], seeds[row : row + 1], AREA, 2)[0], whole[row])
        assert torch.equal(augment(images[[3, 1]], seeds[[3, 1]], AREA, 2), whole[[3, 1]])

    def test_cameras_change_each_on_its_own_but_the_frames_of_one_alike(self) -> None:
        frames = pictures(1).expand(1, 6, -1, -1, -1)  # the same picture from 2 cameras, at 3 times
        seen = augment(frames, torch.tensor([3]), AREA, 2)[0].unflatten(0, (3, 2))
        assert torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])
        assert not torch.equal(seen[0, 0], seen[0, 1])


def open_data(root: Path, augmentation: bool = True, **window: object) -> Datasets:
    return open_libero(
        root, {"image_size": 14, "center_crop": AREA, "augmentation": augmentation, **window}, validation_episodes=1
    )


def prepared_images(
    data: Datasets, batch_size: int, epoch: int = 0, held_out: bool = False, workers: int = 0
) -> dict[int, torch.Tensor]:
    """By sample, its images as the model sees them; those that fill up a batch are left out."""
    dataset = data.validation if held_out else data.train
    assert dataset is not None
    found, task = {}, ActionTask(data.processor)
    for rank in range(2):
        sampler = DistributedSampler(len(dataset), global_batch_size=2 * batch_size, rank=rank, world_size=2)
        sampler.set_position(epoch, 0)
        loader = get_dataloader(dataset, sampler, data.collator, batch_size=batch_size, num_workers=workers, seed=7)
        for batch in loader:
            real = batch.action_mask.any(dim=1)
            assert (batch.augmentation_seeds is None) == held_out
            for sample, image, counts in zip(batch.sample_ids, task.prepare(batch, "cpu").images, real, strict=True):
                if counts:
                    found[int(sample)] = image
    return found


class TestTraining:
    def test_a_sample_looks_the_same_however_it_is_batched_and_another_way_in_the_next_epoch(
        self, libero_root: Path
    ) -> None:
        data = open_data(libero_root)
        one, five = prepared_images(data, 1), prepared_images(data, 5, workers=1)  # the last batch of 5 is padded
        assert one.keys() == five.keys() == set(range(len(data.train)))
        assert all(torch.equal(one[sample], five[sample]) for sample in one)
        later = prepared_images(data, 5, epoch=1)
        assert all(not torch.equal(one[sample], later[sample]) for sample in one)

    def test_held_out_images_are_cropped_in_the_middle(self, libero_root: Path) -> None:
        data, plain = open_data(libero_root), open_data(libero_root, augmentation=False)
        assert (data.train.augments, data.validation.augments) == (True, False)  # type: ignore[attr-defined, union-attr]
        seen, expected = (prepared_images(each, 4, held_out=True) for each in (data, plain))
        assert seen.keys() == expected.keys() and all(torch.equal(seen[sample], expected[sample]) for sample in seen)

    def test_a_loaded_processor_still_says_so(self, libero_root: Path, tmp_path: Path) -> None:
        processor = open_data(libero_root).processor
        processor.save(tmp_path)
        loaded = type(processor).load(tmp_path)
        assert open_libero(libero_root, processor=loaded, validation_episodes=1).train.augments  # type: ignore[attr-defined]

    def test_images_without_seeds_are_those_of_an_evaluation(self, libero_root: Path) -> None:
        data, plain = open_data(libero_root), open_data(libero_root, augmentation=False)
        images = torch.from_numpy(np.ascontiguousarray(data.train[3]["images"]))
        assert torch.equal(data.processor.images(images), plain.processor.images(images))


def test_data_that_can_not_augment_is_refused(libero_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = LiberoDataset.build

    def forgetful(*args: object) -> Datasets:
        datasets = build(*args)  # type: ignore[arg-type]
        datasets.train.augments = False  # type: ignore[attr-defined]
        return datasets

    monkeypatch.setattr(LiberoDataset, "build", forgetful)
    model = VGGTTinyConfig()
    model = replace(model, processor=replace(model.processor, augmentation=True))
    assert isinstance(model.processor, ProcessorConfig)
    with pytest.raises(UserError, match=r"^model.processor.augmentation: must be false, the dataset .* got True$"):
        get_datasets(LiberoConfig(root=libero_root), model)
