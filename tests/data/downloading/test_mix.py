"""Mixtures: the rows and the order that the authors' scripts give."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from vla.conf.download import MixConfig
from vla.data.downloading.mix import write_mix
from vla.errors import UserError

INSTRUCT = "download/llava-v1.5-instruct"


def row(number: int, image: str | None = None) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"é {number}"}, {"from": "gpt", "value": "b"}]
    return {"id": str(number), **({} if image is None else {"image": image}), "conversations": turns}


BASE = [row(n, None if n % 4 == 0 else f"coco/train2017/{n}.jpg") for n in range(40)]
LVIS = [row(100 + n, f"coco/val2017/{n}.jpg") for n in range(15)]
PHOTOS = [{"image_id": n, "question": f" what {n}? ", "answer": "a mug\n", "extra": 1} for n in range(6)]
CHARTS = [{"image_id": f"{n}.png", "question": f"how many {n}?", "answer": " 7"} for n in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The downloaded files with few rows, and their images."""
    folder = tmp_path / INSTRUCT
    files = {
        "llava_v1_5_mix665k.json": BASE, "lvis_instruct4v_220k.json": LVIS, "lrv/filter_cap1.json": PHOTOS[:4],
        "lrv/filter_cap_more1.json": PHOTOS[4:], "lrv/chart_release_update.json": CHARTS,
    }  # fmt: skip
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(rows))
    images = [row["image"] for row in LVIS]
    images += [f"lrv/lrv-vg/{row['image_id']}.jpg" for row in PHOTOS]
    images += [f"lrv/lrv-chart/{row['image_id']}" for row in CHARTS]
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).touch()
    return folder


def lrv_rows() -> list[dict[str, Any]]:
    def chat(label: Any, image: str, question: str, answer: str) -> dict[str, Any]:
        turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        return {"id": label, "image": image, "conversations": turns}

    photos = [chat(n, f"lrv/lrv-vg/{n}.jpg", f"what {n}?", "a mug") for n in range(6)]
    return photos + [chat(str(n), f"lrv/lrv-chart/{n}.png", f"how many {n}?", "7") for n in range(5)]


def shuffled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published way, on the rows themselves."""
    for _ in range(3):
        random.shuffle(rows)
    return rows


def mix(folder: Path, dataset: str, **values: Any) -> list[dict[str, Any]]:
    assert write_mix(MixConfig(dataset=dataset, root=folder.parents[1], **values)) == 0
    (name,) = {path.name for path in folder.glob("llava_v1_5_*") if path.name in NAMES[dataset]}
    return json.loads((folder / name).read_text())


NAMES = {
    "llava-multimodal": "llava_v1_5_stripped625k.json", "llava-lvis4v": "llava_v1_5_lvis4v_mix888k.json",
    "llava-lrv": "llava_v1_5_lrv_mix1008k.json", "llava-lvis4v-lrv": "llava_v1_5_lvis4v_lrv_mix1231k.json",
}  # fmt: skip


def test_lvis(folder: Path) -> None:
    random.seed(7)
    assert mix(folder, "llava-lvis4v") == shuffled(BASE + LVIS)


def test_lrv_and_both(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random.seed(7)
    with_lvis = shuffled(BASE + LVIS)
    random.seed(7)
    with_lrv = shuffled(BASE + lrv_rows())
    both = shuffled(with_lvis + lrv_rows())  # one script writes these two, one after the other
    assert mix(folder, "llava-lrv") == with_lrv
    assert mix(folder, "llava-lvis4v-lrv") == both
    assert json.loads((folder / NAMES["llava-lvis4v"]).read_text()) == with_lvis  # it is made on the way
    assert capsys.readouterr().out.splitlines()[-1].endswith("llava_v1_5_lvis4v_lrv_mix1231k.json: 66 rows")
    assert not list(folder.glob(".*"))


def test_without_text_only_rows(folder: Path) -> None:
    assert mix(folder, "llava-multimodal") == [row for row in BASE if "image" in row]


def test_texts_stay_as_they_are(folder: Path) -> None:
    path = folder / "llava_v1_5_mix665k.json"
    path.write_text(json.dumps(BASE, ensure_ascii=False, indent=1), encoding="utf-8")
    random.seed(7)
    assert mix(folder, "llava-lvis4v") == shuffled(BASE + LVIS)
    assert "é 1" in (folder / NAMES["llava-lvis4v"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("dataset", "missing", "message"),
    [
        (
            "llava-lvis4v",
            "llava_v1_5_mix665k.json",
            r"no file 'llava_v1_5_mix665k.json' in .*; scripts/data.py download",
        ),
        ("llava-lvis4v", "lvis_instruct4v_220k.json", r"no file 'lvis.*\(--dataset lvis-instruct-4v\)"),
        ("llava-lrv", "lrv/filter_cap_more1.json", r"no file 'lrv/filter_cap_more1.json' in .*; get it from https://"),
        (
            "llava-lvis4v",
            "coco/val2017/3.jpg",
            r"no image 'coco/val2017/3.jpg' in .* \(1 of 15 are missing\); scripts/",
        ),
        ("llava-lrv", "lrv/lrv-vg/2.jpg", r"no image 'lrv/lrv-vg/2.jpg' in .* \(1 of 6 are missing\); unpack https://"),
        ("llava-lrv", "lrv/lrv-chart/4.png", r"no image 'lrv/lrv-chart/4.png' .*, or pass --check_images false"),
    ],
)
def test_what_is_missing_is_named(folder: Path, dataset: str, missing: str, message: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"^root: {message}") as raised:
        mix(folder, dataset)
    assert "\n" not in str(raised.value)
    assert not (folder / NAMES[dataset]).exists()


def test_images_need_not_be_there(folder: Path) -> None:
    for path in [*folder.rglob("*.jpg"), *folder.rglob("*.png")]:
        path.unlink()
    assert len(mix(folder, "llava-lvis4v-lrv", check_images=False)) == 66


@pytest.mark.parametrize("bad", [{"image_id": 3, "question": "q"}, {"image_id": 3, "question": 1, "answer": "a"}, [1]])
def test_bad_rows_are_named(folder: Path, bad: Any) -> None:
    (folder / "lrv/filter_cap_more1.json").write_text(json.dumps([PHOTOS[0], bad]))
    with pytest.raises(UserError, match=r"filter_cap_more1.json\[1\]: must have 'image_id', 'question' and 'answer'"):
        mix(folder, "llava-lrv")
