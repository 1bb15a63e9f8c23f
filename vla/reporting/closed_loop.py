"""Success rates, films and contact sheets of the simulator for the report, from `evaluation/<suite>/results.json`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.reporting.pictures import file_uri

_MAX_BYTES = 24 * 2**20  # of all films of a page


@dataclass(frozen=True)
class Film:
    """A film inside the page; `uri` is empty where it is too large, then `path` says where it lies."""

    task: int
    language: str
    outcome: str  # success | failure
    path: str
    uri: str
    is_video: bool


@dataclass(frozen=True)
class ClosedLoopSection:
    """One suite."""

    results: dict[str, Any]
    rows: list[dict[str, Any]]  # of the tasks, then of all
    films: list[Film]
    sheet: str  # data URI of the contact sheet, or empty
    curves: list[tuple[str, str]]  # what an episode was watched under, and the data URI of its scores


def read_sections(run_dir: Path) -> tuple[list[ClosedLoopSection], list[str]]:
    """Every suite that was evaluated, and a sentence for each that can't be read."""
    sections, notes, room = [], [], _MAX_BYTES
    for path in sorted(run_dir.glob("evaluation/*/results.json")):
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
            rows = [*results["tasks"], {**results["overall"], "language": "all", "index": ""}]
            for row in rows:
                row["share"] = "–" if row["rate"] is None else f"{row['rate']:.1%}"
                row["interval"] = f"{row['low']:.1%} – {row['high']:.1%}"
            films = [
                _film(path.parent, run_dir, row, outcome, name)
                for row in results["tasks"]
                for outcome, names in sorted(row.get("videos", {}).items(), reverse=True)
                for name in names
            ]
            sheet = file_uri(path.parent / results["contact_sheet"]) if results.get("contact_sheet") else ""
            curves = _curves(path.parent, results.get("watching"))
        except (ValueError, KeyError, TypeError, OSError) as error:  # a report on a broken run is worth more than none
            notes.append(f"{path.relative_to(run_dir)} can't be read: {error}")
            continue
        room -= len(sheet) + sum(len(uri) for _, uri in curves)
        shown = []
        for film in films:
            room -= len(film.uri)
            shown.append(film if room > 0 else Film(**{**film.__dict__, "uri": ""}))
        sections.append(ClosedLoopSection(results, rows, shown, sheet, curves))
    return sections, notes


def _curves(folder: Path, watching: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Pictures of scores, the one without a fault first."""
    if watching is None:
        return []
    rows = [("nothing", watching["normal"]), *((row["fault"], row) for row in watching["faults"])]
    return [(name, file_uri(folder / row["picture"])) for name, row in rows if row["picture"]]


def _film(folder: Path, run_dir: Path, row: dict[str, Any], outcome: str, name: str) -> Film:
    path = folder / name
    where = path.relative_to(run_dir).as_posix()
    return Film(row["index"], row["language"], outcome, where, file_uri(path), path.suffix == ".mp4")
