"""The measured results of a run as Markdown for its model card, from the files of its `evaluation/` folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vla.conf.json_files import read_json_object
from vla.errors import UserError
from vla.training.checkpoint_files import one_line_errors
from vla.training.evaluation_files import FOLDER

_NOT_MEASURED = "Nothing was measured."
_SKIPPED = ("seconds",)
_DIGITS = 4


def results_section(run_dir: Path) -> list[str]:
    """Lines: held-out data, each suite of the simulator with its intervals, questions; a file that can't be read is
    named.
    """
    lines: list[str] = []
    held_out = run_dir / FOLDER / "metrics.json"
    found = [held_out] if held_out.is_file() else []
    for path in [*found, *sorted(run_dir.glob(f"{FOLDER}/*/results.json"))]:
        try:
            values = read_json_object(path)
            with one_line_errors(path):
                lines += [*_section(path, values), ""]
        except UserError as error:
            lines += [f"`{path.relative_to(run_dir).as_posix()}`: {str(error).partition(': ')[2]}.", ""]
    return lines[:-1] or [_NOT_MEASURED]


def _section(path: Path, values: Mapping[str, Any]) -> list[str]:
    if path.name == "metrics.json":
        return _held_out(values)
    if "overall" in values:
        return _suite(path.parent.name, values)
    if "accuracy" in values:
        return _questions(path.parent.name, values)
    return _numbers(f"`{path.parent.name}`", values)


def _held_out(values: Mapping[str, Any]) -> list[str]:
    """Of the data that training did not see; one row a class where there are classes."""
    of = f" ({values['checkpoint']})" if "checkpoint" in values else ""
    lines = _numbers(f"Held-out data{of}", values)
    classes = values.get("classes")
    if isinstance(classes, list) and classes:
        columns = [name for name, value in classes[0].items() if isinstance(value, int | float | str)]
        lines += ["", *_table(columns, [[_cell(row.get(name)) for name in columns] for row in classes])]
    return lines


def _numbers(title: str, values: Mapping[str, Any]) -> list[str]:
    rows = [
        [name.replace("_", " "), _cell(value)]
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in _SKIPPED
    ]
    return [f"### {title}", "", *_table(["", "value"], rows)]


def _suite(folder: str, values: Mapping[str, Any]) -> list[str]:
    """Success rates with 95 % intervals."""

    def cells(name: str, row: Mapping[str, Any]) -> list[str]:
        rate = "-" if row["rate"] is None else f"{row['rate']:.1%}"
        return [name, f"{row['successes']}/{row['episodes']}", rate, f"{row['low']:.1%} - {row['high']:.1%}"]

    rows = [cells(row["language"], row) for row in values["tasks"]]
    overall = values["overall"]
    rows.append(cells("**all**", overall))
    protocol = values.get("protocol", {})
    how = [f"Played by {values['policy']['name']}"] if "policy" in values else []
    how += [f"at most {protocol['horizon']} steps an episode"] if "horizon" in protocol else []
    how += [f"{overall['distinct_initial_states']} distinct initial states"]
    how += [f"{overall['errors']} episodes ended in an error and count nowhere"] if overall.get("errors") else []
    how += [f"instructions: {values['instructions']}"] if values.get("instructions", "task") != "task" else []
    how += [f"protocol `{values['protocol_hash']}`"] if "protocol_hash" in values else []
    return [
        f"### Simulator: `{folder}`", "", *_table(["task", "successes", "rate", "95 % interval (Wilson)"], rows), "",
        f"{'; '.join(how)}.",
    ]  # fmt: skip


def _questions(folder: str, values: Mapping[str, Any]) -> list[str]:
    rows = [
        [row["kind"], f"{row['correct']}/{row['questions']}", f"{row['accuracy']:.1%}",
         f"{row['low']:.1%} - {row['high']:.1%}", f"{row['majority_accuracy']:.1%}"]
        for row in values["accuracy"]
    ]  # fmt: skip
    columns = ["kind", "right", "accuracy", "95 % interval (Wilson)", "always the most frequent answer"]
    blind = " (without the pictures)" if values.get("blind") else ""
    return [f"### Questions: `{folder}`{blind}", "", *_table(columns, rows)]


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Columns after the first are numbers."""
    join: Callable[[list[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return [join(columns), "|---|" + "---:|" * (len(columns) - 1), *(join(row) for row in rows)]


def _cell(value: Any) -> str:
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)
