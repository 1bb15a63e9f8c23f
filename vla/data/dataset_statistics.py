"""`dataset_statistics.json` of OpenVLA: statistics of the data behind a published model, read and written.

    {dataset: {"action": {mean, std, max, min, q01, q99, mask}, "proprio": {...}, num_transitions, num_trajectories}}

Its gripper is 1 for open and 0 for closed and is left out of the `mask` of what is normalised; here it is -1 for open
and +1 for closed, as LIBERO's files have it.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vla.conf.json_files import read_json
from vla.data.statistics import ArrayStatistics, Statistics
from vla.errors import UserError

STATISTICS_FILE = "dataset_statistics.json"
_COLUMNS = tuple(item.name for item in fields(ArrayStatistics) if item.name != "count")
_MIRRORED = {"min": "max", "max": "min", "q01": "q99", "q99": "q01"}  # once the gripper's direction is turned
_KINDS = {"actions": "action", "proprio": "proprio"}


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of one dataset."""

    name: str  # what published code calls `unnorm_key`
    statistics: Statistics  # "actions", the gripper last, and "proprio" if the file has it
    num_trajectories: int


def read_dataset_statistics(path: Path, unnorm_key: str | None = None) -> DatasetStatistics:
    """
    Statistics of one dataset out of a file.

    Args:
        path: the file, or the folder that it is in.
        unnorm_key: name of the dataset; may be None where the file has only one. `libero_object` also finds
            `libero_object_no_noops`.

    Raises:
        UserError: there is no such file, it isn't one, or the dataset is not in it.
    """
    path = path / STATISTICS_FILE if path.is_dir() else path
    content = read_json(path)
    return parse_dataset_statistics(content, unnorm_key, str(path))


def parse_dataset_statistics(content: Any, unnorm_key: str | None, source: str) -> DatasetStatistics:
    """Like `read_dataset_statistics`, of the content of such a file (`norm_stats` of a Hugging Face config).

    Args:
        content: the parsed file.
        unnorm_key: see there.
        source: where it comes from, for errors.

    Raises:
        UserError: see there.
    """
    name = _choose(content, unnorm_key, source)
    found: Statistics = {}
    try:
        entry = content[name]
        for ours, theirs in _KINDS.items():
            if theirs in entry:
                count = int(entry.get("num_transitions", 1))
                found[ours] = ArrayStatistics.from_dict({**entry[theirs], "count": count})
        found["actions"] = _from_published(found["actions"])
        return DatasetStatistics(name, found, int(entry.get("num_trajectories", 0)))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{source}: the statistics of '{name}' are incomplete or no numbers ({error})") from error


def write_dataset_statistics(
    folder: Path, name: str, statistics: Statistics, num_trajectories: int, *, other: dict[str, Any] | None = None
) -> Path:
    """
    Write `dataset_statistics.json` into `folder`; returns its path.

    Args:
        folder: exists.
        name: of the dataset.
        statistics: as `Processor.statistics`, the gripper -1 for open.
        num_trajectories: episodes that they are of.
        other: entries of other datasets to write beside it.
    """
    path = folder / STATISTICS_FILE
    content = {**(other or {}), name: dump_dataset_statistics(statistics, num_trajectories)}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def dump_dataset_statistics(statistics: Statistics, num_trajectories: int) -> dict[str, Any]:
    """One dataset's entry of the file."""
    actions = _to_published(statistics["actions"])
    entry: dict[str, Any] = {"action": {name: list(getattr(actions, name)) for name in _COLUMNS}}
    entry["action"]["mask"] = [True] * (len(actions) - 1) + [False]
    if "proprio" in statistics:
        entry["proprio"] = {name: list(getattr(statistics["proprio"], name)) for name in _COLUMNS}
    return {**entry, "num_transitions": actions.count, "num_trajectories": num_trajectories}


def _choose(content: Any, unnorm_key: str | None, source: str) -> str:
    if not isinstance(content, dict) or not content:
        raise UserError(f"{source}: no statistics of any dataset")
    if unnorm_key is None:
        if len(content) == 1:
            return next(iter(content))
        raise UserError(f"unnorm_key: {source} has statistics of {', '.join(content)}; name one of them")
    for name in (unnorm_key, f"{unnorm_key}_no_noops"):
        if name in content:
            return name
    raise UserError(f"unnorm_key: must be one of {', '.join(content)}, got {unnorm_key!r} ({source})")


def _turned(actions: ArrayStatistics, slope: float, offset: float) -> ArrayStatistics:
    """The gripper's column as `slope` x value + `offset`, where the slope is negative."""
    columns = {name: getattr(actions, name) for name in _COLUMNS}
    for name, column in columns.items():
        value = getattr(actions, _MIRRORED.get(name, name))[-1]
        columns[name] = (*column[:-1], -slope * value if name == "std" else slope * value + offset)
    return ArrayStatistics(**columns, count=actions.count)


def _from_published(actions: ArrayStatistics) -> ArrayStatistics:
    return _turned(actions, -2.0, 1.0)


def _to_published(actions: ArrayStatistics) -> ArrayStatistics:
    return _turned(actions, -0.5, 0.5)
