"""Pictures in MVTec-AD's layout: index, reading, masks, augmentation, what is said about bad files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vla.conf.datasets import MVTecADConfig
from vla.conf.models.uniad import AnomalyProcessorConfig, UniADTinyConfig
from vla.data.anomaly.collator import AnomalyCollator
from vla.data.anomaly.index import read_index
from vla.data.anomaly.processor import AnomalyProcessor
from vla.data.errors import BadData
from vla.data.loader import get_dataloader
from vla.data.materialize import get_datasets, load_processor
from vla.data.samplers import DistributedSampler
from vla.errors import UserError

SIZE = (40, 30)  # width and height of the files


def write(path: Path, seed: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (SIZE[1], SIZE[0], 3) if mode == "RGB" else (SIZE[1], SIZE[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes; `screw` is grey, and one of its defects has no mask."""
    for number in range(3):
        write(tmp_path / f"bottle/train/good/{number:03d}.png", number)
        write(tmp_path / f"screw/train/good/{number:03d}.png", 10 + number, "L")
    write(tmp_path / "bottle/test/good/000.png", 20)
    write(tmp_path / "bottle/test/broken/000.png", 21)
    write(tmp_path / "screw/test/scratch/000.png", 22, "L")
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    mask[10:20, 5:15] = 255
    (tmp_path / "bottle/ground_truth/broken").mkdir(parents=True)
    Image.fromarray(mask).save(tmp_path / "bottle/ground_truth/broken/000_mask.png")
    (tmp_path / "bottle/test/.DS_Store").write_bytes(b"no folder")  # as file managers leave it
    return tmp_path


def meta_lines(root: Path, split: str) -> list[dict]:
    found = read_index(MVTecADConfig(root=root), split)
    lines = []
    for item in found:
        line = {"filename": item.file, "label": item.label, "label_name": "x", "clsname": item.class_name}
        lines.append(line | ({"maskname": item.mask} if item.mask else {}))
    return lines


def write_meta(root: Path) -> None:
    for split in ("train", "test"):
        text = "".join(json.dumps(line) + "\n" for line in meta_lines(root, split))
        (root / f"{split}.json").write_text(text)


def open_data(root: Path, **values):
    return get_datasets(MVTecADConfig(root=root, **values), UniADTinyConfig())


def test_index_of_the_folders_and_of_meta_files(root):
    folders = {split: read_index(MVTecADConfig(root=root), split) for split in ("train", "test")}
    assert [len(folders["train"]), len(folders["test"])] == [6, 3]
    bad = folders["test"][0]
    assert (bad.file, bad.class_name, bad.label) == ("bottle/test/broken/000.png", "bottle", 1)
    assert bad.mask == "bottle/ground_truth/broken/000_mask.png"
    write_meta(root)
    assert {split: read_index(MVTecADConfig(root=root), split) for split in ("train", "test")} == folders
    inner = root / "mvtec_anomaly_detection"  # UniAD's layout: the meta files lie beside it
    inner.mkdir()
    for name in ("bottle", "screw"):
        (root / name).rename(inner / name)
    assert {split: read_index(MVTecADConfig(root=root), split) for split in ("train", "test")} == folders
    lines = [{key: value for key, value in line.items() if key != "clsname"} for line in meta_lines(root, "test")]
    (root / "test.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_index(MVTecADConfig(root=root), "test") == folders["test"]
    only = read_index(MVTecADConfig(root=root, classes=("screw",)), "train")
    assert {item.class_name for item in only} == {"screw"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"filename": "bottle/test/broken/000.png", "label": 1}\n{broken\n', r"test.json: line 2: "),
        ('{"label": 0}\n', "test.json: line 1: no 'filename'"),
        (
            '{"filename": "bottle/test/none.png", "label": 0, "clsname": "a"}\n',
            "line 1: there is no bottle/test/none.png",
        ),
        ('{"filename": "bottle/test/broken/000.png", "label": 1, "maskname": "m.png"}\n', "line 1: there is no m.png"),
        ('{"filename": "bottle/test/broken/000.png", "label": 2}\n', "line 1: label must be 0 or 1, got 2"),
        ('{"filename": "000.png", "label": 0}\n', "line 1: "),
        ("[1]\n", "line 1: "),
        ("", "test.json: names no picture"),
    ],
)
def test_bad_meta_files_are_named_with_the_line(root, content, message):
    write_meta(root)
    (root / "test.json").write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        open_data(root)
    assert "\n" not in str(raised.value)


def test_unknown_classes_and_folders(root, tmp_path):
    with pytest.raises(UserError, match="dataset.classes: must be of bottle, screw, got 'nut'"):
        open_data(root, classes=("nut",))
    with pytest.raises(UserError, match="dataset.root: must name the folder"):
        open_data(None)
    with pytest.raises(UserError, match="dataset.rotate: needs square pictures"):
        config = replace(UniADTinyConfig(), processor=AnomalyProcessorConfig(input_size=(64, 72)))
        get_datasets(MVTecADConfig(root=root, rotate=True), config)


def test_samples_are_squeezed_as_published(root):
    data = open_data(root)
    sample = data.validation[0]
    with Image.open(root / "bottle/test/broken/000.png") as image:
        expected = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.array_equal(sample["image"], expected) and sample["image"].dtype == np.uint8
    rows, columns = np.nonzero(sample["mask"])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (21, 42, 8, 23)  # 30 -> 64 rows, 40 -> 64 columns
    assert sample["class_name"] == "bottle" and sample["label"] == 1
    assert data.validation.sample_label(0) == sample["file"] == "bottle/test/broken/000.png"
    grey = data.train[3]["image"]
    assert np.array_equal(grey[0], grey[1]) and not data.train[3]["mask"].any()
    whole = data.validation[2]
    assert whole["label"] == 1 and whole["mask"].all()  # without a mask the defect is everywhere
    with pytest.raises(IndexError):
        data.train[6]


def test_batches(root):
    data = open_data(root)
    sampler = DistributedSampler(len(data.train), global_batch_size=8, world_size=2, rank=1, shuffle=False)
    (batch,) = get_dataloader(data.train, sampler, data.collator, batch_size=4, seed=1)
    assert batch.images.shape == (3, 3, 64, 64) and batch.masks.shape == (3, 64, 64) and batch.masks.dtype == torch.bool
    assert batch.is_real.all() and batch.classes == ["screw"] * 3 and batch.rng_seeds.unique().numel() == 3
    sampler = DistributedSampler(5, global_batch_size=2, world_size=2, rank=1, shuffle=False)
    last = list(get_dataloader(data.train, sampler, data.collator, batch_size=1, seed=1))[-1]
    assert last.is_real.tolist() == [False]


def test_pictures_are_normalised_on_their_device():
    processor = AnomalyProcessor(AnomalyProcessorConfig())
    pictures = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (pictures / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(processor.images(pictures), expected)


def test_the_processor_is_saved_with_the_weights(tmp_path):
    config = AnomalyProcessorConfig(input_size=(96, 64), image_score="std", score_pool=(8, 4))
    processor = AnomalyProcessor(config)
    processor.save(tmp_path)
    assert load_processor(tmp_path) == processor and load_processor(tmp_path).config == config
    (tmp_path / "processor.json").write_text('{"kind": "anomaly", "format": 9}')
    with pytest.raises(UserError, match="not a processor file of an anomaly detector"):
        load_processor(tmp_path)


def test_augmentation_turns_picture_and_mask_alike_by_the_samples_seed(root):
    data = open_data(root, hflip=True, vflip=True, rotate=True)
    assert data.train.augments and not data.validation.augments and not open_data(root).train.augments
    image = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4)
    seen = set()
    for seed in range(60):
        sample = {"image": image, "mask": image[0] % 5 == 0, "augment": ("hflip", "vflip", "rotate"), "rng_seed": seed}
        sample |= {"class_name": "a", "file": "a", "label": 0, "sample_id": 0}
        batch = AnomalyCollator()([sample])
        assert torch.equal(batch.masks[0], batch.images[0, 0] % 5 == 0)
        again = AnomalyCollator()([sample])
        assert torch.equal(batch.images, again.images)
        seen.add(batch.images.numpy().tobytes())
    assert len(seen) == 8


def test_files_are_read_once_and_not_at_all_where_features_are_kept(root):
    data = open_data(root)
    first = data.train[0]["image"]
    (root / data.train.pictures[0].file).unlink()
    assert np.array_equal(data.train[0]["image"], first)
    data.train.images_needed = False
    assert data.train[1]["image"].shape == (3, 0, 0)
    content, row, length = data.train.locate(0)
    assert (row, length) == (0, 1) and content != data.train.locate(1)[0]
    again = open_data(root, image_cache_mb=0)
    (root / again.train.pictures[0].file).write_bytes(b"no picture")
    with pytest.raises(BadData, match="bottle/train/good/001.png: can't be read") as raised:
        again.train[0]
    assert "\n" not in str(raised.value)
