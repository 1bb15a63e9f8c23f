"""Which pictures a folder in MVTec-AD's layout holds: from its meta files, or from its folders where there are none.

Layout: `<class>/train/good/*.png`, `<class>/test/<good or a defect>/*.png` and, for defects,
`<class>/ground_truth/<defect>/<name>_mask.png`. Meta files are JSON lines with `filename`, `label` (0 good, 1 not),
and where they apply `clsname` and `maskname`; names start at the folder of the classes.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonlines

from vla.conf.datasets import MVTecADConfig
from vla.data.datasets.base import existing_root
from vla.data.errors import one_line
from vla.errors import UserError

IMAGE_FOLDER = "mvtec_anomaly_detection"  # beside the meta files, as UniAD has it
GOOD = "good"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class PictureRef:
    """A picture and what is said about it."""

    file: str  # below the folder of the classes
    class_name: str
    label: int  # 1: shows a defect
    mask: str | None  # file of the defect's mask; None for a defect: the whole picture
    content: str  # hash that differs between files with other pictures


def image_folder(config: MVTecADConfig) -> Path:
    """The folder of the classes.

    Raises:
        UserError: there is none.
    """
    root = existing_root(config.root, "of MVTec-AD (a folder per class, or train.json beside it)")
    if config.image_dir is not None:
        if not config.image_dir.is_dir():
            raise UserError(f"dataset.image_dir: no such folder: {config.image_dir}")
        return config.image_dir
    inner = root / IMAGE_FOLDER
    return inner if inner.is_dir() else root


def read_index(config: MVTecADConfig, split: str) -> list[PictureRef]:
    """The pictures of a split, train or test, in the order of the meta file, or by class, defect and name.

    Raises:
        UserError: there are none, a line of the meta file can't be used, or a file is missing.
    """
    folder, root = image_folder(config), config.root
    assert root is not None
    meta = root / (config.train_meta if split == "train" else config.test_meta)
    found = list(_from_meta(meta, folder) if meta.is_file() else _from_folders(folder, split))
    if not found and meta.is_file():
        raise UserError(f"{meta}: names no picture")
    if not found:
        raise UserError(f"dataset.root: {folder} holds no <class>/{split}/*/*.png, and there is no {meta}")
    known = {picture.class_name for picture in found}
    for name in config.classes:
        if name not in known:
            raise UserError(f"dataset.classes: must be of {', '.join(sorted(known))}, got {name!r}")
    return [picture for picture in found if not config.classes or picture.class_name in config.classes]


def _from_meta(meta: Path, folder: Path) -> Iterator[PictureRef]:
    try:
        with jsonlines.open(meta) as lines:
            for number, line in enumerate(lines.iter(type=dict, skip_empty=True), start=1):
                try:
                    yield _from_line(line, folder)
                except (KeyError, ValueError, TypeError, IndexError) as error:
                    problem = f"no {error}" if isinstance(error, KeyError) else one_line(error)
                    raise UserError(f"{meta}: line {number}: {problem}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{meta}: not JSON lines in UTF-8 ({one_line(error)})") from error
    except jsonlines.Error as error:
        raise UserError(f"{meta}: line {error.lineno}: {str(error).splitlines()[0]}") from error  # type: ignore[attr-defined]


def _from_line(line: dict, folder: Path) -> PictureRef:
    file, label = str(line["filename"]), line["label"]
    if label not in (0, 1):
        raise ValueError(f"label must be 0 or 1, got {label!r}")
    class_name = str(line["clsname"]) if "clsname" in line else Path(file).parts[-4]
    return _reference(folder, file, class_name, int(label), line.get("maskname"))


def _from_folders(folder: Path, split: str) -> Iterator[PictureRef]:
    for kind in sorted(path for path in folder.glob(f"*/{split}/*") if path.is_dir()):  # not .DS_Store and its like
        for path in sorted(kind.iterdir()):
            if path.suffix.lower() in SUFFIXES:
                class_folder = kind.parents[1]
                is_good = kind.name == GOOD
                mask = None if is_good else class_folder / "ground_truth" / kind.name / f"{path.stem}_mask.png"
                name = None if mask is None or not mask.is_file() else mask.relative_to(folder).as_posix()
                yield _reference(folder, path.relative_to(folder).as_posix(), class_folder.name, int(not is_good), name)


def _reference(folder: Path, file: str, class_name: str, label: int, mask: str | None) -> PictureRef:
    missing = file
    try:
        status = (folder / file).stat()
        if mask is not None:
            missing = mask
            (folder / mask).stat()
    except OSError:  # a name that no file can have, too
        raise ValueError(f"there is no {missing} in {folder}") from None
    identity = f"{file} {status.st_size} {status.st_mtime_ns}"
    return PictureRef(file, class_name, label, mask, hashlib.sha256(identity.encode()).hexdigest()[:16])
