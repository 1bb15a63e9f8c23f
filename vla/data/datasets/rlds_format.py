"""What `features.json` and `dataset_info.json` of a dataset in RLDS say: fields, splits and their files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.conf.json_files import read_json_object
from vla.data.errors import one_line
from vla.errors import UserError

FEATURES, INFO = "features.json", "dataset_info.json"
_SHARD = re.compile(r"^(?P<name>.+)-(?P<split>[A-Za-z0-9_]+)\.tfrecord-(?P<number>\d{5,})-of-(?P<total>\d{5,})$")
_NUMBERS = ("float", "int", "uint", "bool", "bfloat")
_DEEPEST = 20


@dataclass(frozen=True)
class Field:
    """A feature of a step or of an episode. `kind`: image | text | number | other."""

    kind: str
    shape: tuple[int, ...]  # -1: not said
    encoding: str = ""  # of an image: jpeg | png


@dataclass(frozen=True)
class Description:
    """The whole description."""

    root: Path  # the folder with features.json
    name: str
    fields: dict[str, Field]  # by path: "steps/observation/image"
    splits: dict[str, list[Path]]  # files in order, those that are missing too
    lengths: dict[str, list[int]]  # episodes in each file, as described; empty: not said


def read_description(root: Path) -> Description:
    """Read and check the two files, in `root` or in its only sub-folder that has them (a version's).

    Raises:
        UserError: they are not there, or damaged; one line.
    """
    folder = _folder(root)
    info = _json(folder / INFO)
    try:
        fields = dict(_walk(_json(folder / FEATURES), "", 0))
        form = str(info.get("fileFormat", "tfrecord"))
        if form not in ("tfrecord", "FILE_FORMAT_UNSPECIFIED"):
            raise UserError(f"{folder / INFO}: fileFormat: must be tfrecord, got {form!r}")
        lengths = {
            str(split["name"]): [int(length) for length in split.get("shardLengths") or []]
            for split in info.get("splits") or []
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder}: not a description of a dataset in RLDS ({one_line(error)})") from None
    if not any(key.startswith("steps/") for key in fields):
        raise UserError(f"{folder / FEATURES}: no 'steps': not a dataset in RLDS")
    splits = _splits(folder)
    if not splits:
        raise UserError(f"dataset.root: no *.tfrecord-* files in {folder}")
    return Description(folder, str(info.get("name") or folder.parent.name), fields, splits, lengths)


def _folder(root: Path) -> Path:
    if (root / FEATURES).is_file():
        return root
    found = sorted(path.parent for path in root.glob(f"*/{FEATURES}"))
    if len(found) != 1:
        which = f"name one of {', '.join(path.name for path in found)}" if found else f"no {FEATURES} in it"
        raise UserError(f"dataset.root: must be the folder of a version of a dataset in RLDS: {root}: {which}")
    return found[0]


def _splits(folder: Path) -> dict[str, list[Path]]:
    """Files by split; all numbers of a split's total, whether they are there or not."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _SHARD.match(path.name)
        if match and match["split"] not in found:
            total, width = int(match["total"]), len(match["total"])
            if total <= 1_000_000:
                stem = path.name.rpartition("-of-")[0].rpartition("-")[0]
                found[match["split"]] = [folder / f"{stem}-{n:0{width}d}-of-{match['total']}" for n in range(total)]
    return found


def _walk(node: dict[str, Any], path: str, depth: int) -> Any:
    """Paths and fields of a tree of features; TensorFlow Datasets flattens names the same way."""
    if depth > _DEEPEST:
        raise ValueError("features lie too deep in each other")
    if "featuresDict" in node:
        for name, inner in (node["featuresDict"].get("features") or {}).items():
            yield from _walk(inner, f"{path}/{name}" if path else name, depth + 1)
    elif "sequence" in node:
        yield from _walk(node["sequence"]["feature"], path, depth + 1)
    elif "image" in node:
        yield path, Field("image", _shape(node["image"]), str(node["image"].get("encodingFormat", "")))
    elif "text" in node:
        yield path, Field("text", ())
    elif "tensor" in node:
        dtype = str(node["tensor"].get("dtype", ""))
        kind = "number" if dtype.startswith(_NUMBERS) else "text" if dtype in ("string", "object") else "other"
        yield path, Field(kind, _shape(node["tensor"]))
    else:
        yield path, Field("other", ())


def _shape(node: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in (node.get("shape") or {}).get("dimensions") or ())


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"dataset.root: no dataset in RLDS: {path} is not there")
    return read_json_object(path)
