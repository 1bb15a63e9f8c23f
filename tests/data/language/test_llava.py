"""Align and finetune datasets: the published samples, batches and lengths; workers."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from language_files import CASES, GOLDEN, NAMES, PLAIN, llava_config, make_processor, open_data

from vla.batches import IGNORE_INDEX
from vla.conf.datasets import DatasetConfig
from vla.conf.stage import Stage
from vla.data.datasets.base import MapDataset
from vla.data.language.datasets import AlignDataset, FinetuneDataset
from vla.data.loader import get_dataloader
from vla.data.materialize import get_datasets
from vla.data.samplers import DistributedSampler, SplitModalitySampler


class TestPublished:
    @pytest.mark.parametrize("builder", NAMES)
    def test_finetune_samples(self, root: Path, builder: str) -> None:
        dataset = open_data(root, prompt=NAMES[builder]).train
        assert isinstance(dataset, FinetuneDataset) and isinstance(dataset, MapDataset)
        for number, expected in enumerate(CASES["finetune"][builder]):
            sample = dataset[number]
            assert sample["input_ids"].tolist() == expected["input_ids"]
            assert sample["labels"].tolist() == expected["labels"]
            assert sample["input_ids"].dtype == sample["labels"].dtype == np.int64
            assert sample["is_multimodal"] == (sample["pixel_values"] is not None) == expected["has_image"]

    def test_align_samples(self, root: Path) -> None:
        dataset = open_data(root, Stage.ALIGN).train
        assert isinstance(dataset, AlignDataset)
        for number, expected in enumerate(CASES["align"]):
            sample = dataset[number]
            assert sample["input_ids"].tolist() == expected["input_ids"]
            assert sample["labels"].tolist() == expected["labels"]
            assert sample["pixel_values"]["siglip"].shape == (3, 8, 8)

    def test_lengths(self, root: Path) -> None:
        assert open_data(root).train.modality_lengths().tolist() == CASES["finetune_modality_lengths"]
        align = open_data(root, Stage.ALIGN).train
        assert align.modality_lengths().tolist() == CASES["align_modality_lengths_n_patches_256"]

    @pytest.mark.parametrize("builder", NAMES)
    def test_batches(self, root: Path, builder: str) -> None:
        data, expected = open_data(root, prompt=NAMES[builder]), CASES["collated"][builder]
        batch = data.collator([data.train[number] for number in range(5)])
        assert batch.input_ids.tolist() == expected["input_ids"]
        assert batch.labels.tolist() == expected["labels"]
        assert batch.attention_mask.long().tolist() == expected["attention_mask"]
        assert batch.is_multimodal.nonzero().ravel().tolist() == expected["multimodal_indices"]
        assert list(batch.pixel_values["siglip"].shape) == expected["pixel_shape"]
        assert batch.pixel_values["siglip"].dtype == torch.uint8
        pixels = data.processor.pixels(batch.pixel_values)["siglip"]
        assert pixels.sum(dim=(1, 2, 3)).tolist() == pytest.approx(expected["pixel_sums"], rel=1e-6)

    def test_batches_of_text_only(self, root: Path) -> None:
        data, expected = open_data(root), CASES["collated"]["pure_textonly"]
        batch = data.collator([data.train[number] for number in (1, 3)])
        assert list(batch.pixel_values["siglip"].shape) == expected["pixel_shape"]
        assert not batch.is_multimodal.any() and not batch.pixel_values["siglip"].any()

    def test_stages(self, root: Path) -> None:
        assert isinstance(open_data(root, Stage.FULL_FINETUNE).train, FinetuneDataset)
        assert open_data(root).validation is None


class TestBatches:
    def test_padding_samples_teach_nothing(self, root: Path) -> None:
        data = open_data(root)
        batch = data.collator([{**data.train[0], "is_padding": True, "sample_id": 4, "rng_seed": 9}, data.train[0] | {
            "is_padding": False, "sample_id": 5, "rng_seed": 8}])  # fmt: skip
        assert (batch.labels[0] == IGNORE_INDEX).all() and not (batch.labels[1] == IGNORE_INDEX).all()
        assert torch.equal(batch.input_ids[0], batch.input_ids[1])
        assert batch.sample_ids.tolist() == [4, 5] and batch.rng_seeds.tolist() == [9, 8]

    def test_an_end_token_that_also_pads_is_no_padding(self, root: Path) -> None:
        data = open_data(root)
        data.processor.tokenizer.pad_token = data.processor.tokenizer.eos_token
        batch = type(data.collator)(data.processor)([data.train[number] for number in (0, 1)])
        lengths = batch.attention_mask.sum(dim=1).tolist()
        assert lengths == [len(data.train[0]["input_ids"]), len(data.train[1]["input_ids"])]
        assert batch.input_ids[1, lengths[1] - 1] == batch.input_ids[1, -1] == 2

    def test_two_towers(self, root: Path) -> None:
        processor = make_processor(transforms={"dino": PLAIN, "siglip": replace(PLAIN, size=4)})
        data = get_datasets(llava_config(root), SimpleNamespace(processor=None), processor, Stage.FINETUNE)
        batch = data.collator([data.train[number] for number in (0, 1)])
        assert {tower: tuple(pixels.shape) for tower, pixels in batch.pixel_values.items()} == {
            "dino": (2, 3, 8, 8), "siglip": (2, 3, 4, 4)}  # fmt: skip

    def test_images_that_nobody_looks_at_are_not_read(self, root: Path) -> None:
        data = open_data(root)
        for path in (root / "images").iterdir():
            path.write_bytes(b"")
        data.train.images_needed = False
        batch = data.collator([data.train[number] for number in range(5)])
        assert batch.pixel_values["siglip"].shape == (5, 3, 0, 0)
        assert batch.is_multimodal.tolist() == [True, False, True, False, True]

    def test_without_images_every_row_is_text(self, root: Path) -> None:
        seen, blind = open_data(root), open_data(root, use_images=False)
        for number in range(5):
            sample = blind.train[number]
            assert sample["pixel_values"] is None and not sample["is_multimodal"]
            assert sample["input_ids"].tolist() == seen.train[number]["input_ids"].tolist()
        assert not blind.train.modality_lengths()[:, 0].any()
        assert not blind.collator([blind.train[number] for number in range(5)]).is_multimodal.any()

    @pytest.mark.parametrize("workers", [0, 2])
    def test_loaded_by_workers(self, root: Path, workers: int) -> None:
        data = open_data(root)
        sampler = DistributedSampler(5, global_batch_size=2, shuffle=False)
        loader = get_dataloader(data.train, sampler, data.collator, batch_size=2, num_workers=workers)
        batches = list(loader)
        assert [batch.sample_ids.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
        again = data.collator([data.train[number] for number in (2, 3)])
        assert torch.equal(batches[1].input_ids, again.input_ids)
        assert torch.equal(batches[1].pixel_values["siglip"], again.pixel_values["siglip"])

    def test_lengths_group_the_samples(self, root: Path) -> None:
        data = open_data(root)
        sampler = SplitModalitySampler(data.train.modality_lengths(), global_batch_size=2)
        modalities = [data.train[index]["is_multimodal"] for index in sampler]
        assert all(first == second for first, second in zip(modalities[::2], modalities[1::2], strict=True))


def test_published_datasets() -> None:
    registry = json.loads((GOLDEN / "registry.json").read_text(encoding="utf-8"))["datasets"]
    assert len(registry) == 5
    for dataset_id, published in registry.items():
        ours = DatasetConfig.get_choice_class(dataset_id)()
        assert [ours.align_annotations, ours.align_images] == published["align_stage_components"]
        assert [ours.finetune_annotations, ours.finetune_images] == published["finetune_stage_components"]
        assert ours.root is None and ours.validation_fraction == 0
