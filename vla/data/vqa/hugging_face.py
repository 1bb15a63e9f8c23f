"""Opening data in the layout of Hugging Face's `datasets`: saved to disk, as files, from the hub, or as a stream."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from importlib.util import find_spec
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from vla.conf.vqa_datasets import VQAConfig
from vla.data.datasets.base import existing_root
from vla.data.errors import one_line
from vla.data.vqa.sources import Table
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

_FORMATS = {".parquet": "parquet", ".arrow": "arrow", ".jsonl": "json", ".json": "json"}
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"
_SPLIT_WORDS = {  # in a file's name, as in those that `datasets` writes
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
HELD_OUT_SPLITS = ("validation", "test")


def open_tables(config: VQAConfig) -> list[Table]:
    """
    The configurations that `config` names, with random access.

    Raises:
        UserError: the data can't be found, or none of its configurations can be opened.
    """
    weights = config.weights or (1.0,) * len(config.configs)
    opened = _open_all(config, streaming=False)
    by_name = dict(zip(config.configs, weights, strict=True))
    tables = [Table(name, rows, by_name.get(name, 1.0)) for name, rows in opened.items()]
    tables = [table for table in tables if table.count]
    if not tables:
        raise UserError(f"{_field(config)}: there is no row in it")
    return tables


class Shards:
    """
    The shards of streamed configurations, one behind the other; those of a weight of 2.5 three times, the third time
    with every second row.

    Args:
        parts: by name, `datasets.IterableDataset`s.
        weights: by name, how often an epoch reads a configuration; once, if it is not there.
        taken: by name and number of a shard, how many of its first rows are not here.
    """

    def __init__(
        self, parts: Mapping[str, Any], weights: Mapping[str, float] | None = None,
        taken: Mapping[tuple[str, int], int] | None = None,
    ) -> None:  # fmt: skip
        self._parts, self._weights, self._taken = dict(parts), dict(weights or {}), dict(taken or {})
        self._shards = [
            (name, index, share)
            for name, part in parts.items()
            for share in _shares(self._weights.get(name, 1.0))
            for index in range(part.num_shards)
        ]

    @property
    def num_shards(self) -> int:
        """See `ShardedSource`."""
        return len(self._shards)

    def open(self, shard: int, row: int) -> Iterator[Any]:
        """See `ShardedSource`."""
        name, index, share = self._shards[shard]
        place = _place(row, share)
        rows = enumerate(self._rows(name, index, place), start=place)
        return (item for number, item in rows if int((number + 1) * share) > int(number * share))

    def label(self, shard: int, row: int) -> str:
        """See `ShardedSource`."""
        name, index, share = self._shards[shard]
        return f"{name}, shard {index} [{_place(row, share) + self._taken.get((name, index), 0)}]"

    def hold_out(self, count: int) -> tuple["Shards", list[Any], list[str]]:
        """The first `count` rows with their labels, and the shards without them."""
        items: list[Any] = []
        labels: list[str] = []
        taken: dict[tuple[str, int], int] = {}
        for name, index in dict.fromkeys((name, index) for name, index, _ in self._shards):
            rows = list(islice(self._rows(name, index, 0), count - len(items)))
            labels += [f"{name}, shard {index} [{row}]" for row in range(len(rows))]
            items += rows
            taken[name, index] = len(rows)
            if len(items) == count:
                break
        return Shards(self._parts, self._weights, taken), items, labels

    def _rows(self, name: str, index: int, first: int) -> Iterator[Any]:
        """The rows of a shard from its number `first` on, all of them."""
        part = self._parts[name]
        rows = part.shard(num_shards=part.num_shards, index=index)
        skipped = first + self._taken.get((name, index), 0)
        rows = rows.skip(skipped) if skipped else rows
        return (table.to_pylist()[0] for table in rows.with_format("arrow"))


def _shares(weight: float) -> list[Fraction]:
    """A weight as shares of at most 1: 2.5 -> 1, 1, 1/2."""
    whole, rest = divmod(Fraction(weight).limit_denominator(1000), 1)
    return [Fraction(1)] * int(whole) + ([rest] if rest else [])


def _place(row: int, share: Fraction) -> int:
    """The number, among all rows of a shard, of row number `row` of those that an even share keeps."""
    return ceil((row + 1) / share) - 1


def open_shards(config: VQAConfig) -> Shards:
    """
    The configurations that `config` names, to be read from front to back.

    Raises:
        UserError: the data can't be found, or none of its configurations can be opened.
    """
    weights = dict(zip(config.configs, config.weights, strict=True)) if config.weights else {}
    return Shards(_open_all(config, streaming=True), weights)


def _open_all(config: VQAConfig, *, streaming: bool) -> dict[str, Any]:
    """What can be opened, by name; what can't is told and counted."""
    if find_spec("datasets") is None:
        raise UserError("dataset.type: 'vqa' needs the package datasets: pip install .[vqa]")
    opened: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, open_one in _openers(config, streaming).items():
        try:
            opened[name] = open_one()
        except Exception as error:  # of whatever kind the library raises
            failed[name] = f"{type(error).__name__}: {one_line(error)}"
            overwatch.warning(f"{_field(config)}: configuration '{name}' is left out: {failed[name]}")
    if not opened:
        reasons = "; ".join(f"'{name}' ({reason})" for name, reason in failed.items())
        advice = "; a copy of it on this disk is read with --dataset.root DIR" if config.hub is not None else ""
        raise UserError(f"{_field(config)}: no configuration can be opened: {reasons}{advice}")
    if failed:
        overwatch.warning(f"{_field(config)}: {len(failed)} of {len(failed) + len(opened)} configurations are left out")
    return opened


def _field(config: VQAConfig) -> str:
    return "dataset.hub" if config.hub is not None else "dataset.root"


def _openers(config: VQAConfig, streaming: bool) -> dict[str, Callable[[], Any]]:
    if config.hub is not None:
        return {name or "default": _from_hub(config, name, streaming) for name in config.configs or (None,)}
    root = existing_root(config.root, "with the data, or pass --dataset.hub with an id")
    folders = {name: root / name for name in config.configs} or {folder.name: folder for folder in _folders(root)}
    if not folders:
        known = ", ".join(sorted(set(_FORMATS)))
        raise UserError(f"dataset.root: {config.root} holds neither a saved dataset nor files of {known}")
    return {name: _from_folder(folder, config.split, streaming) for name, folder in folders.items()}


def _from_hub(config: VQAConfig, name: str | None, streaming: bool) -> Callable[[], Any]:
    def open_one() -> Any:
        from datasets import load_dataset

        assert config.hub is not None
        return load_dataset(config.hub, name, split=config.split, streaming=streaming)

    return open_one


def _from_folder(folder: Path, split: str, streaming: bool) -> Callable[[], Any]:
    def open_one() -> Any:
        if _is_saved(folder):
            return _saved(folder, split, streaming)
        files = _files(folder)
        if not files:
            raise FileNotFoundError(f"{folder} holds neither a saved dataset nor files of {', '.join(_FORMATS)}")
        return _load_files(_of_split(files, split), streaming)

    return open_one


def _saved(folder: Path, split: str, streaming: bool) -> Any:
    from datasets import load_from_disk

    if (folder / _SAVED_SPLITS).is_file():
        if not (folder / split / _SAVED).is_file():
            others = ", ".join(sorted(path.parent.name for path in folder.glob(f"*/{_SAVED}"))) or "none"
            raise FileNotFoundError(f"{folder} has no split '{split}', but {others}")
        folder = folder / split
    return _load_files(_files(folder), streaming) if streaming else load_from_disk(str(folder))


def _load_files(files: Sequence[Path], streaming: bool) -> Any:
    from datasets import load_dataset

    kind = _FORMATS[files[0].suffix]
    return load_dataset(kind, data_files={"train": [str(file) for file in files]}, split="train", streaming=streaming)


def _files(folder: Path) -> list[Path]:
    """Data files of a folder, of the first format of which there are any."""
    for suffix in _FORMATS:
        files = sorted(folder.glob(f"*{suffix}"))
        files = [file for file in files if file.name not in (_SAVED, _SAVED_SPLITS, "dataset_info.json")]
        if files:
            return files
    return []


def _of_split(files: Sequence[Path], split: str) -> list[Path]:
    """The files whose names say that they are of a split (`train-00000-of-00002.parquet`); all, if none says any.

    Raises:
        FileNotFoundError: they are of other splits.
    """
    wanted = _SPLIT_WORDS.get(split, split)
    named = {file: _split_of(file, wanted) for file in files}
    if not any(named.values()):
        return list(files)
    chosen = [file for file, name in named.items() if name == wanted]
    if not chosen:
        others = ", ".join(sorted({name for name in named.values() if name}))
        raise FileNotFoundError(f"{files[0].parent} has no files of the split '{split}', but of {others}")
    return chosen


def _split_of(file: Path, wanted: str = "train") -> str | None:
    words = re.split(r"[-._ ]", file.stem.lower())
    return next((_SPLIT_WORDS.get(word, wanted) for word in words if word in (*_SPLIT_WORDS, wanted.lower())), None)


def held_out_split(root: Path) -> str:
    """The split of a folder of data to ask questions from: that for validation or testing, if one is told apart."""
    for split in HELD_OUT_SPLITS:
        for folder in _folders(root):
            saved = (folder / split / _SAVED).is_file()
            if saved or (not _is_saved(folder) and split in map(_split_of, _files(folder))):
                return split
    return "train"


def _folders(root: Path) -> list[Path]:
    """The folders below `root` that hold data, or `root` itself."""
    if _is_data(root):
        return [root]
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and _is_data(folder))


def _is_data(folder: Path) -> bool:
    return _is_saved(folder) or bool(_files(folder))


def _is_saved(folder: Path) -> bool:
    return (folder / _SAVED).is_file() or (folder / _SAVED_SPLITS).is_file()
