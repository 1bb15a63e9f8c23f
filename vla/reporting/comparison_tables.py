"""Tables of a comparison: a row for each figure, field or version, a column for each run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vla.reporting.closed_loop import read_sections
from vla.reporting.run_folder import RunRecord
from vla.reporting.summary import count, duration, figure, flatten

NOTHING = "–"  # what stands where a run has no value
_LOWER = ("loss", "l1", "l2", "mse", "error", "perplexity")  # endings of names of which less is better
_HIGHER = ("accuracy", "auroc", "aupro", "ap", "f1", "rate", "max", "score")
_SUCCESS = "success rate"
_SKIPPED = ("num_", "seconds", "step", "epoch")
_UNITS = {"held out: translation l1": " mm", "held out: rotation l1": "°"}
_YAML = {"None": "none", "True": "true", "False": "false"}  # as they are typed
_OWN = ("run_id", "run_root_dir", "resume")  # fields that say which run it is, not how it was trained


@dataclass(frozen=True)
class TableRow:
    """A row."""

    name: str
    cells: list[str]
    best: list[bool] = field(default_factory=list)  # by cell: whether it is the best of the row


Table = list[TableRow]


def final_table(records: list[RunRecord]) -> Table:
    """Final figures: success rates, evaluation, losses, time. The best of each row is marked where it is known."""
    rows = [dict(_figures(record)) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: _SUCCESS not in name)  # what was done comes before what was computed
    return [_final_row(name, [row.get(name) for row in rows]) for name in names]


def config_table(configs: list[dict[str, Any]]) -> tuple[Table, int]:
    """Fields whose values differ, and how many are equal."""
    plain = [{fact.label: _YAML.get(fact.value, fact.value) for fact in flatten(config)} for config in configs]
    return _differing(plain, _OWN)


def version_table(records: list[RunRecord]) -> Table:
    """What differs in versions and hardware."""
    rows = [{fact.label: fact.value for fact in flatten(record.environment)} for record in records]
    return _differing(rows, ("command",))[0]


def _differing(columns: list[dict[str, str]], skipped: tuple[str, ...]) -> tuple[Table, int]:
    names = [name for name in dict.fromkeys(name for column in columns for name in column) if name not in skipped]
    cells = {name: [column.get(name, NOTHING) for column in columns] for name in names}
    rows = [TableRow(name, values) for name, values in cells.items() if len(set(values)) > 1]
    return rows, len(names) - len(rows)


def _figures(record: RunRecord) -> Iterator[tuple[str, float]]:
    """Names and values of one run; the name's ending says how the value is shown and which way is better."""
    for section in read_sections(record.run_dir)[0]:
        results = section.results
        told = " (told another task's instruction)" if results["instructions"] == "shuffled" else ""
        told += " (watched)" if "watching" in results else ""
        told += "".join(f" ({name} {value})" for name, value in results.get("options", {}).items())
        if results["overall"].get("rate") is not None:
            yield f"{results['suite']}: {_SUCCESS}{told}", float(results["overall"]["rate"])
    for name, value in record.evaluation.items():
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if plain and not name.endswith("_baseline") and not name.startswith(_SKIPPED):
            yield f"held out: {name.replace('_', ' ')}", float(value)
    history = record.history
    for key, series in history.with_prefix("eval/").items():
        finite = series.finite
        if len(finite) and _direction(key):
            best = finite.values.min() if _direction(key) < 0 else finite.values.max()
            yield f"best held-out {key.replace('_', ' ')}", float(best)
    loss = history.get("train/loss")
    if loss is not None and loss.last is not None:
        yield "last training loss", loss.last
    if history.last_step is not None:
        yield "optimizer steps", float(history.last_step)
    if history.total_seconds is not None:
        yield "training time", history.total_seconds
    rate = history.get("train/samples_per_second")
    if rate is not None and rate.mean is not None:
        yield "samples per second, mean", rate.mean
    if record.parameters:
        yield "parameters trained", float(sum(row.trainable for row in record.parameters))


def _direction(name: str) -> int:
    """-1 where less is better, +1 where more is, 0 where nobody knows."""
    last = name.replace("_", " ").split()[-1]
    return -1 if last in _LOWER else 1 if last in _HIGHER else 0


def _final_row(name: str, values: list[float | None]) -> TableRow:
    known = [value for value in values if value is not None]
    direction = _direction(name)
    best = [False] * len(values)
    if direction and len(set(known)) > 1:
        target = min(known) if direction < 0 else max(known)
        best = [value == target for value in values]
    return TableRow(name, [NOTHING if value is None else _shown(name, value) for value in values], best)


def _shown(name: str, value: float) -> str:
    if _SUCCESS in name or (name.endswith("accuracy") and 0 <= value <= 1):
        return f"{value:.1%}"
    if name == "training time":
        return duration(value)
    if name == "optimizer steps":
        return f"{value:,.0f}"
    return count(value) if name == "parameters trained" else figure(value) + _UNITS.get(name, "")
