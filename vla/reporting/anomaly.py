"""Metrics by class and sheets of pictures of an anomaly detector, from `evaluation/metrics.json`, for the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.evaluation.anomaly.results import METRICS
from vla.evaluation.anomaly.tables import TITLES, percent
from vla.reporting.pictures import file_uri
from vla.reporting.run_folder import CLASSES

_MAX_BYTES = 16 * 2**20  # of all sheets of a page


@dataclass(frozen=True)
class AnomalySection:
    """What the page shows."""

    titles: list[str]  # of the metrics
    rows: list[dict[str, Any]]  # class, good, defective, cells; the last one holds the means
    notes: list[str]
    sheets: list[dict[str, str]]  # class and data URI; without one where it is too large
    checkpoint: str
    num_samples: int


def read_anomaly(run_dir: Path, evaluation: dict[str, Any]) -> AnomalySection | None:
    """The section of an evaluation; None for one of another kind of model."""
    if not isinstance(evaluation.get(CLASSES), list):
        return None
    rows = [{**row, "cells": [percent(row.get(name)) for name in METRICS]} for row in evaluation[CLASSES]]
    sheets, room = [], _MAX_BYTES
    for name, file in evaluation.get("sheets", {}).items():
        uri = file_uri(run_dir / "evaluation" / file)
        room -= len(uri)
        sheets.append({"class": name, "uri": uri if room > 0 else "", "file": f"evaluation/{file}"})
    return AnomalySection(
        list(TITLES.values()), rows, list(evaluation.get("notes", [])), sheets, str(evaluation.get("checkpoint", "")),
        int(evaluation.get("num_samples", 0)),
    )  # fmt: skip
