"""Which rows a dataset has: splits by image, bad rows, missing files; and where a sample comes from."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
from language_files import CASES, dialogue, llava_config, open_data, write_many, write_rows
from PIL import Image

from vla.batches import IGNORE_INDEX
from vla.conf.stage import Stage
from vla.data.errors import BadExample
from vla.data.loader import get_dataloader
from vla.data.materialize import get_datasets
from vla.data.samplers import DistributedSampler, SampleIndex
from vla.errors import UserError


class TestSplits:
    def test_rows_of_an_image_stay_together(self, root: Path) -> None:
        rows = [dialogue(f"q {n}", "a", image=f"{n % 10}.png") for n in range(40)] + [
            dialogue("t", f"{n}") for n in range(10)
        ]
        write_many(root, rows)
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
        write_many(root, rows)
        first = held_out()
        write_many(root, [*rows[::-1], *rows[:3]])
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
            llava_config(root, validation_fraction=1.0)


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
            get_datasets(llava_config(None), SimpleNamespace(processor=None))

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
        write_many(root, [dialogue("q", str(n), image=f"{n % 3}.png") for n in range(6)] + [dialogue("q", "a")] * 2)
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
