"""Rendered pictures with defects: repeatable, masked to the pixel, in MVTec-AD's layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vla.conf.render_defects import CLASSES, RenderDefectsConfig
from vla.data.defects.classes import CAMERA_NOISE, PICTURE_CLASSES, VISIBLE, defects_of, draw_example
from vla.data.defects.writing import write_dataset
from vla.errors import UserError

SIZE = 64
CASES = [(name, defect) for name in CLASSES for defect in defects_of(name)]


def small(root: Path, **changes) -> RenderDefectsConfig:
    values = {"classes": ("wood", "plate"), "train": 2, "test_good": 1, "test_bad": 1, "image_size": SIZE}
    return RenderDefectsConfig(output=root, **(values | changes))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_classes_are_those_that_the_configuration_names():
    assert tuple(PICTURE_CLASSES) == CLASSES and len(CLASSES) >= 5
    kinds = {defect for _, defect in CASES}
    assert kinds >= {"scratch", "missing-part", "stain", "foreign-object", "colour-shift", "misplaced"}


@pytest.mark.parametrize(("name", "defect"), CASES)
def test_masks_are_where_a_defect_changes_the_picture(name, defect):
    key = (3, CLASSES.index(name), 1, 0)
    good, bad = draw_example(name, key, SIZE), draw_example(name, key, SIZE, defect)
    assert not good.mask.any() and 0 < bad.mask.mean() < 0.5
    difference = np.abs(good.image.astype(int) - bad.image).max(axis=2)  # both have the same noise of the camera
    slack = 2 / 255 + 8 * CAMERA_NOISE * (difference.max() > 0)
    assert difference[~bad.mask].max(initial=0) / 255 <= VISIBLE + slack
    assert np.median(difference[bad.mask]) / 255 > VISIBLE


@pytest.mark.parametrize("name", CLASSES)
def test_pictures_are_made_of_their_key_alone(name):
    one, again, other = (draw_example(name, (3, 0, 0, number), SIZE).image for number in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert one.shape == (SIZE, SIZE, 3) and 20 < one.mean() < 235 and one.std() > 5


def test_layout_and_meta_files(tmp_path):
    assert write_dataset(small(tmp_path)) == 0
    rows = {split: [json.loads(line) for line in (tmp_path / f"{split}.json").open()] for split in ("train", "test")}
    assert len(rows["train"]) == 4 and all(row["label"] == 0 and "maskname" not in row for row in rows["train"])
    assert len(rows["test"]) == 2 + sum(len(defects_of(name)) for name in ("wood", "plate"))
    bad = [row for row in rows["test"] if row["label"]]
    assert bad[0] == {
        "filename": "wood/test/scratch/000.png", "label": 1, "clsname": "wood", "label_name": "defective",
        "maskname": "wood/ground_truth/scratch/000_mask.png",
    }  # fmt: skip
    for row in bad:
        mask = np.asarray(Image.open(tmp_path / row["maskname"]))
        assert mask.shape == (SIZE, SIZE) and set(np.unique(mask)) == {0, 255}
        assert Image.open(tmp_path / row["filename"]).size == (SIZE, SIZE)


def test_goes_on_where_it_was_interrupted_and_can_be_extended(tmp_path):
    write_dataset(small(tmp_path / "a", train=3))
    write_dataset(small(tmp_path / "b"))
    kept = tmp_path / "b/wood/train/good/000.png"
    before = kept.stat().st_mtime_ns
    (tmp_path / "b/plate/test/good/000.png").unlink()
    write_dataset(small(tmp_path / "b", train=3, workers=2))
    assert kept.stat().st_mtime_ns == before and contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_folder_of_other_settings_is_refused(tmp_path):
    write_dataset(small(tmp_path, classes=("wood",)))
    with pytest.raises(UserError, match="was rendered with .* take another folder") as raised:
        write_dataset(small(tmp_path, classes=("wood",), seed=8))
    assert "\n" not in str(raised.value)
