"""scripts/data.py mix: the annotation files of the published mixtures, row by row in the published order."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

from vla.conf.download import INSTRUCT_FOLDER, MixConfig
from vla.data.language.annotation_scan import iterate_rows, read_annotations
from vla.data.language.annotations import Annotations
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.prompting import IMAGE_TOKEN

overwatch = initialize_overwatch(__name__)

BASE = "llava_v1_5_mix665k.json"
STRIPPED = "llava_v1_5_stripped625k.json"
LVIS_MIX = "llava_v1_5_lvis4v_mix888k.json"
LRV_MIX = "llava_v1_5_lrv_mix1008k.json"
LVIS_LRV_MIX = "llava_v1_5_lvis4v_lrv_mix1231k.json"
LVIS = "lvis_instruct4v_220k.json"
PHOTO_FILES, PHOTOS = ("lrv/filter_cap1.json", "lrv/filter_cap_more1.json"), "lrv/lrv-vg"
CHART_FILE, CHARTS = "lrv/chart_release_update.json", "lrv/lrv-chart"
SEED, SHUFFLES = 7, 3
_DRIVE = "https://drive.google.com/uc?id="
_FETCH = "scripts/data.py download fetches it"
WHERE = {  # how to get what is missing
    BASE: _FETCH,
    LVIS: f"{_FETCH} (--dataset lvis-instruct-4v)",
    PHOTO_FILES[0]: f"get it from {_DRIVE}1pWkxE2kqpys1VdwBi99ZXN6-XY5SqhwU",
    PHOTO_FILES[1]: f"get it from {_DRIVE}1NTxkuRPlvDn7aWaJpK_yb0p5r0cxPLNZ",
    CHART_FILE: f"get it from {_DRIVE}13j2U-ectsYGR92r6J5hPdhT8T5ezItHF",
    PHOTOS: f"unpack {_DRIVE}1k9MNV-ImEV9BYEOeLEIb4uGEUZjd3QbM and rename its folder 'image'",
    CHARTS: f"unpack {_DRIVE}1Dey-undzW2Nl21CYLFSkP_Y4RrfRJkYd and rename its folder 'chart_image'",
}

Chunks = Iterable[bytes]  # rows as JSON


def write_mix(config: MixConfig) -> int:
    """Write the annotation file that `config` names; prints how many rows it has.

    Rows keep their text. They are shuffled as the authors' scripts do (Python's generator, seed 7, three times); LLaVA
    without its text-only rows keeps LLaVA's order, of which no script is published.

    Returns:
        Exit code 0.

    Raises:
        UserError: a file or image is missing, with where to get it; or a row can't be understood.
    """
    folder = config.root / INSTRUCT_FOLDER
    name, rows = {
        "llava-multimodal": _write_stripped,
        "llava-lvis4v": _write_lvis,
        "llava-lrv": _write_lrv,
        "llava-lvis4v-lrv": _write_lvis_lrv,
    }[config.dataset](folder, config.check_images)
    print(f"{folder / name}: {rows:,} rows")
    return 0


def shuffled(count: int, generator: Random) -> list[int]:
    """Numbers of rows in the published order, which depends on their count and the generator alone."""
    order = list(range(count))
    for _ in range(SHUFFLES):
        generator.shuffle(order)
    return order


def _write_stripped(folder: Path, check_images: bool) -> tuple[str, int]:
    base = _annotations(folder, BASE)
    rows = base.is_multimodal.nonzero()[0].tolist()
    return STRIPPED, _write(folder / STRIPPED, (base.read_bytes(row) for row in rows))


def _write_lvis(folder: Path, check_images: bool) -> tuple[str, int]:
    base, added = _annotations(folder, BASE), _annotations(folder, LVIS)
    if check_images:
        _check_images(folder, LVIS, added.images())
    return LVIS_MIX, _write_shuffled(folder / LVIS_MIX, base, [added.read_bytes(row) for row in range(len(added))],
                                     Random(SEED))  # fmt: skip


def _write_lrv(folder: Path, check_images: bool) -> tuple[str, int]:
    base = _annotations(folder, BASE)
    return LRV_MIX, _write_shuffled(folder / LRV_MIX, base, _lrv_rows(folder, check_images), Random(SEED))


def _write_lvis_lrv(folder: Path, check_images: bool) -> tuple[str, int]:
    if not (folder / LVIS_MIX).is_file():
        _write_lvis(folder, check_images)
    base, added = _annotations(folder, LVIS_MIX), _lrv_rows(folder, check_images)
    generator = Random(SEED)
    shuffled(len(_annotations(folder, BASE)) + len(added), generator)  # the authors' script writes that mix first
    return LVIS_LRV_MIX, _write_shuffled(folder / LVIS_LRV_MIX, base, added, generator)


def _lrv_rows(folder: Path, check_images: bool) -> list[bytes]:
    """LRV-Instruct's questions and answers as rows in LLaVA's format: first those about photographs, then charts."""
    rows: list[bytes] = []
    images: list[str] = []
    for name in (*PHOTO_FILES, CHART_FILE):
        is_chart = name == CHART_FILE
        for number, row in enumerate(iterate_rows(_existing(folder, name))):
            try:
                image_id = str(row["image_id"])
                question, answer = row["question"].strip(), row["answer"].strip()
            except (KeyError, TypeError, AttributeError):
                raise UserError(f"{folder / name}[{number}]: must have 'image_id', 'question' and 'answer'") from None
            images.append(f"{CHARTS}/{image_id}" if is_chart else f"{PHOTOS}/{image_id}.jpg")
            turns = [
                {"from": "human", "value": f"{IMAGE_TOKEN}\n{question}"},
                {"from": "gpt", "value": answer},
            ]
            label = Path(image_id).stem if is_chart else row["image_id"]
            rows.append(json.dumps({"id": label, "image": images[-1], "conversations": turns}).encode())
    if check_images:
        for name in (PHOTOS, CHARTS):
            _check_images(folder, name, [image for image in images if image.startswith(f"{name}/")])
    return rows


def _write_shuffled(path: Path, base: Annotations, added: list[bytes], generator: Random) -> int:
    order = shuffled(len(base) + len(added), generator)
    return _write(path, (base.read_bytes(row) if row < len(base) else added[row - len(base)] for row in order))


def _write(path: Path, rows: Chunks) -> int:
    """Write a JSON list so that it is never seen half written; returns its length."""
    beside = path.with_name(f".{path.name}.partial")
    count = 0
    with beside.open("wb") as file:
        for count, row in enumerate(rows, start=1):
            file.write(b"[" if count == 1 else b", ")
            file.write(row)
        file.write(b"]" if count else b"[]")
    os.replace(beside, path)
    return count


def _annotations(folder: Path, name: str) -> Annotations:
    return read_annotations(_existing(folder, name))


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        advice = f"; {WHERE[name]}" if name in WHERE else ""
        raise UserError(f"root: no file '{name}' in {folder}{advice}")
    return path


def _check_images(folder: Path, source: str, images: list[str]) -> None:
    missing = list(_missing(folder, images))
    if missing:
        advice = (
            WHERE[source]
            if source in WHERE and source != LVIS
            else "scripts/data.py download fetches coco and coco-val"
        )
        raise UserError(
            f"root: no image '{missing[0]}' in {folder} ({len(missing)} of {len(images)} are missing); {advice}, "
            "or pass --check_images false"
        )


def _missing(folder: Path, images: list[str]) -> Iterator[str]:
    names: dict[str, frozenset[str]] = {}  # by folder
    for image in images:
        parent, _, name = image.rpartition("/")
        if parent not in names:
            there = folder / parent
            names[parent] = frozenset(os.listdir(there)) if there.is_dir() else frozenset()
        if name not in names[parent]:
            yield image
