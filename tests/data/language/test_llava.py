"""Align and finetune datasets: the published samples, batches and lengths; splits; bad rows; workers."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from language_files import GOLDEN, PLAIN, dialogue, make_processor, write_images, write_rows
from PIL import Image

from vla.batches import IGNORE_INDEX
from vla.conf.datasets import DatasetConfig, LlavaConfig
from vla.conf.stage import Stage
from vla.data.datasets.base import Datasets, MapDataset
from vla.data.errors import BadExample
from vla.data.language.datasets import AlignDataset, FinetuneDataset
from vla.data.loader import get_dataloader
from vla.data.materialize import get_datasets
from vla.data.samplers import DistributedSampler, SampleIndex, SplitModalitySampler
from vla.errors import UserError

CASES = json.loads((GOLDEN / "datasets.json").read_text(encoding="utf-8"))
NAMES = {
    "pure": "pure", "llama2_chat": "llama2-chat", "vicuna_v15": "vicuna", "mistral_instruct": "mistral-instruct",
}  # fmt: skip
FILES = {
    "align_annotations": "align.json", "align_images": "images", "finetune_annotations": "finetune.json",
    "finetune_images": "images",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The golden rows; picture k is of the grey value 40 k."""
    write_rows(tmp_path / "align.json", CASES["align_examples"])
    write_rows(tmp_path / "finetune.json", CASES["finetune_examples"])
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (40 * number,) * 3).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def config(root: Path | None, **values: Any) -> LlavaConfig:
    return LlavaConfig(**{"root": root, **FILES, **values})


def open_data(root: Path, stage: Stage = Stage.FINETUNE, prompt: str = "pure", **values: Any) -> Datasets:
    return get_datasets(config(root, **values), SimpleNamespace(), make_processor(prompt), stage)


def many(root: Path, rows: list[dict[str, Any]]) -> None:
    """Rows instead of the golden ones, and a picture for each that names one."""
    write_rows(root / "finetune.json", rows)
    write_images(root / "images", sorted({row["image"] for row in rows if "image" in row}))


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
        data = get_datasets(config(root), SimpleNamespace(), processor, Stage.FINETUNE)
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


class TestSplits:
    def test_rows_of_an_image_stay_together(self, root: Path) -> None:
        rows = [dialogue(f"q {n}", "a", image=f"{n % 10}.png") for n in range(40)] + [
            dialogue("t", f"{n}") for n in range(10)
        ]
        many(root, rows)
        data = open_data(root, validation_fraction=0.2)
        assert data.validation is not None
        parts = [[part.row(index) for index in range(len(part))] for part in (data.train, data.validation)]
        assert sorted(map(json.dumps, parts[0] + parts[1])) == sorted(map(json.dumps, rows))
        keys = [{row.get("image", row["conversations"][1]["value"]) for row in part} for part in parts]
        assert not keys[0] & keys[1] and len(keys[1]) == 4  # of 10 images and 10 rows without one
        assert data.validation.modality_lengths().shape == (len(data.validation), 2)

    def test_the_split_depends_on_the_images_alone(self, root: Path) -> None:
        def held_out() -> set[str]:
            part = open_data(root, validation_fraction=0.25).validation
            return {part.row(index)["image"] for index in range(len(part))}

        rows = [dialogue(f"q {n}", "a", image=f"{n}.png") for n in range(20)]
        many(root, rows)
        first = held_out()
        many(root, [*rows[::-1], *rows[:3]])
        assert held_out() == first and len(first) == 5

    def test_a_file_of_its_own(self, root: Path) -> None:
        write_rows(root / "held_out.json", CASES["finetune_examples"][:2])
        values = {"finetune_validation_annotations": "held_out.json", "validation_fraction": 0.5}
        data = open_data(root, **values)
        assert (len(data.train), len(data.validation)) == (5, 2)
        assert data.validation.sample_label(0) == "held_out.json[0] 0.png"
        align = open_data(root, Stage.ALIGN, **values)
        assert (len(align.train), len(align.validation)) == (1, 1)

    def test_something_must_be_left(self, root: Path) -> None:
        with pytest.raises(UserError, match=r"^dataset\.validation_fraction: must leave something to train on"):
            open_data(root, validation_fraction=0.95)
        with pytest.raises(ValueError, match=r"validation_fraction: must be within \[0, 1\), got 1"):
            config(root, validation_fraction=1.0)


class TestBadRows:
    ROWS = (
        dialogue("q", "a", image="0.png"), dialogue("no answer"), dialogue("q", "a", image="lost.png"),
        dialogue("q", "a", image="sub/lost.png"), dialogue("q", "a"),
    )  # fmt: skip

    def test_the_first_is_named(self, root: Path) -> None:
        write_rows(root / "finetune.json", list(self.ROWS))
        with pytest.raises(BadExample) as raised:
            open_data(root)
        assert str(raised.value) == (
            f"{root / 'finetune.json'}[1]: 'conversations' must be a list of at least two turns; 2 more rows can't be "
            "used (dataset.on_bad_example skip leaves such rows out)"
        )

    def test_a_missing_image_is_named(self, root: Path) -> None:
        write_rows(root / "finetune.json", [self.ROWS[0], self.ROWS[3]])
        with pytest.raises(BadExample, match=rf"finetune.json\[1\]: no image 'sub/lost.png' in {root / 'images'} "):
            open_data(root)

    def test_skipped_and_counted(self, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
        write_rows(root / "finetune.json", list(self.ROWS))
        data = open_data(root, on_bad_example="skip")
        assert [data.train.sample_label(index) for index in range(len(data.train))] == [
            "finetune.json[0] 0.png", "finetune.json[4]"]  # fmt: skip
        assert len(data.train.skipped) == 3 and "finetune.json[2]: no image 'lost.png'" in data.train.skipped[1]
        err = capfd.readouterr().err
        assert "skipped 3 bad rows" in err and "no image 'sub/lost.png'" in err

    def test_none_is_left(self, root: Path) -> None:
        write_rows(root / "finetune.json", list(self.ROWS[1:4]))
        with pytest.raises(UserError, match=r"^dataset\.root: .*finetune.json has no row to train on, e.g. ") as raised:
            open_data(root, on_bad_example="skip")
        assert "\n" not in str(raised.value)
        write_rows(root / "finetune.json", [])
        with pytest.raises(UserError, match=r"^dataset\.root: .*finetune.json has no row to train on$"):
            open_data(root)

    def test_align_needs_an_image_and_a_caption(self, root: Path) -> None:
        write_rows(root / "align.json", [dialogue("q", "a"), dialogue("q", "a", "q", "a", image="0.png")])
        with pytest.raises(BadExample, match=r"align.json\[0\]: has no 'image'"):
            open_data(root, Stage.ALIGN)
        write_rows(root / "align.json", [dialogue("q", "a", "q", "a", image="0.png"), CASES["align_examples"][0]])
        with pytest.raises(BadExample, match=r"align.json\[0\]: has 4 turns"):
            open_data(root, Stage.ALIGN)
        assert len(open_data(root, Stage.ALIGN, on_bad_example="skip").train) == 1

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_damaged_image_stops_the_run(self, root: Path, workers: int) -> None:
        data = open_data(root)
        content = (root / "images" / "2.png").read_bytes()
        (root / "images" / "2.png").write_bytes(content[: len(content) // 2])
        sampler = DistributedSampler(5, global_batch_size=5, shuffle=False)
        with pytest.raises(BadExample, match=r"finetune.json\[2\]: image .*2.png can't be read: ") as raised:
            list(get_dataloader(data.train, sampler, data.collator, batch_size=5, num_workers=workers))
        assert "\n" not in str(raised.value)

    def test_a_damaged_image_teaches_nothing(self, root: Path, capfd: pytest.CaptureFixture[str]) -> None:
        data = open_data(root, on_bad_example="skip")
        (root / "images" / "2.png").write_bytes(b"no picture")
        for _ in range(2):
            batch = data.collator([data.train[number] for number in range(5)])
        assert (batch.labels[2] == IGNORE_INDEX).all() and batch.is_multimodal.tolist() == [True, False] * 2 + [True]
        assert (batch.labels[[0, 1, 3, 4]] != IGNORE_INDEX).any(dim=1).all()
        assert capfd.readouterr().err.count("nothing is learned from") == 1

    def test_text_that_is_no_text(self, root: Path) -> None:
        write_rows(root / "finetune.json", [dialogue("q", "half of a pair: \ud83d")])
        with pytest.raises(BadExample, match=r"finetune.json\[0\]: can't be tokenised"):
            open_data(root).train[0]


class TestPaths:
    def test_no_root(self) -> None:
        with pytest.raises(UserError, match=r"^dataset\.root: must name the folder"):
            get_datasets(config(None), SimpleNamespace())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"finetune_images": "nowhere"}, r"no folder 'nowhere' \(dataset\.finetune_images\)"),
            ({"finetune_annotations": "x.json"}, r"no file 'x.json' \(dataset\.finetune_annotations\)"),
            ({"finetune_validation_annotations": "y"}, r"no file 'y' \(dataset\.finetune_validation_annotations\)"),
        ],
    )
    def test_missing_parts_are_named(self, root: Path, change: dict[str, str], message: str) -> None:
        with pytest.raises(UserError, match=rf"^dataset\.root: {message} in {root}"):
            open_data(root, **change)

    def test_samples_out_of_range(self, root: Path) -> None:
        dataset = open_data(root).train
        for index in (-1, 5):
            with pytest.raises(IndexError):
                dataset[index]

    def test_pickled(self, root: Path) -> None:
        dataset = open_data(root).train
        dataset.locate(0)
        copy = pickle.loads(pickle.dumps(dataset))
        assert copy[SampleIndex(4)]["input_ids"].tolist() == dataset[4]["input_ids"].tolist()

    def test_features_are_kept_by_image(self, root: Path) -> None:
        many(root, [dialogue("q", str(n), image=f"{n % 3}.png") for n in range(6)] + [dialogue("q", "a")] * 2)
        dataset = open_data(root).train
        places = [dataset.locate(index) for index in range(8)]
        assert places[:3] == places[3:6] and len(set(places)) == 4 and places[6] == places[7]
        assert {length for _, _, length in places} == {4} and {row for _, row, _ in places} == {0, 1, 2, 3}
        before = places[0][0]
        Image.new("RGB", (30, 30)).save(root / "images" / "1.png")
        assert open_data(root).train.locate(0)[0] != before

    def test_pictures_for_people(self, root: Path) -> None:
        dataset = open_data(root).train
        assert dataset.open_image(1) is None and dataset.open_image(4).getpixel((0, 0)) == (40, 40, 40)


def test_published_datasets() -> None:
    registry = json.loads((GOLDEN / "registry.json").read_text(encoding="utf-8"))["datasets"]
    assert len(registry) == 5
    for dataset_id, published in registry.items():
        ours = DatasetConfig.get_choice_class(dataset_id)()
        assert [ours.align_annotations, ours.align_images] == published["align_stage_components"]
        assert [ours.finetune_annotations, ours.finetune_images] == published["finetune_stage_components"]
        assert ours.root is None and ours.validation_fraction == 0
