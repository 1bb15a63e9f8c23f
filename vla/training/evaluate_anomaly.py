"""Evaluation of anomaly detectors: how well their maps find the defects of held-out pictures, class by class."""

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vla.data.anomaly.processor import AnomalyProcessor
from vla.data.datasets.base import Datasets
from vla.evaluation.anomaly.pictures import choose, sheet
from vla.evaluation.anomaly.results import AnomalyMetrics, AnomalyResults
from vla.evaluation.anomaly.tables import percent, rows, to_csv, to_markdown
from vla.models.base import BaseModel
from vla.overwatch.distributed import DistState
from vla.training.evaluation_files import FOLDER, held_out_batches, replace_file
from vla.training.tasks.base import Task

HELD_OUT_BY = "dataset.test_meta"
_SHOWN = ("image_auroc_max", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro")  # on the console
_SHEETS = "pictures"  # folder of them


def evaluate_run(
    model: BaseModel, processor: AnomalyProcessor, datasets: Datasets, task: Task, run_dir: Path, device: str, *,
    batch_size: int = 16, max_batches: int | None = None, checkpoint: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Metrics of `vla.evaluation.anomaly` on the held-out pictures, in one process.

    Writes `run_dir`/evaluation/: metrics.json, classes.csv, classes.md, and pictures/<class>.jpg with a class's best,
    median and worst pictures.

    Args:
        model: on `device`; its parameters are whole, not sharded.
        processor: the model's.
        max_batches: stop after so many batches of `batch_size`; None: all of them.
        checkpoint: name of what is evaluated, for the record.

    Returns:
        What metrics.json holds. Empty, and nothing is written, if nothing is held out.
    """
    if datasets.validation is None or not len(datasets.validation):
        return {}
    start, training = time.perf_counter(), model.training
    collecting: Any = task
    model.eval()
    try:
        batches = (task.prepare(batch, device) for batch in held_out_batches(datasets, batch_size, max_batches))
        sums, results = collecting.collect(model, batches)
    finally:
        model.train(training)
    found: AnomalyMetrics = results.compute(DistState())
    folder = run_dir / FOLDER
    (folder / _SHEETS).mkdir(parents=True, exist_ok=True)
    table = rows(found)
    metrics = {name.removeprefix("eval/"): value for name, value in sums.means(DistState()).items()} | {
        **found.means, "classes": table, "notes": found.notes, "image_score": processor.config.image_score,
        "sheets": _write_sheets(folder, results, found, datasets.validation, processor.config.image_score),
        "num_samples": int(table[-1]["good"] or 0) + int(table[-1]["defective"] or 0), "checkpoint": checkpoint,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip
    replace_file(folder / "classes.csv", to_csv(table).encode())
    replace_file(folder / "classes.md", to_markdown(table).encode())
    replace_file(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    return metrics


def _write_sheets(
    folder: Path, results: AnomalyResults, found: AnomalyMetrics, dataset: Any, image_score: str
) -> dict[str, str]:
    """By class, the file of its sheet below `folder`."""
    written = {}
    for row in found.classes:
        pictures = results.pictures(row.name)
        if not all(np.isfinite(picture.values).all() for picture in pictures):
            continue
        height, width = results.shape
        choices = choose(pictures, (height, width), image_score)
        values = np.concatenate([picture.values for picture in pictures])
        scale = float(np.percentile(values, 5)), float(values.max())
        images = [dataset.picture(choice.picture.sample) for choice in choices]
        name = f"{_SHEETS}/{re.sub(r'[^A-Za-z0-9._-]', '_', row.name)}.jpg"
        sheet(choices, images, (height, width), scale).save(folder / name, quality=90)
        written[row.name] = name
    return written


def print_metrics(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print what `evaluate_run` found as a table on the console (standard output by default)."""
    classes = metrics["classes"]
    table = Table(title=f"{metrics['num_samples']:,} held-out pictures of {len(classes) - 1} classes, in percent")
    for column in ("class", "good", "defective", *(name.replace("_", " ") for name in _SHOWN)):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in classes:
        numbers = (str(row[name]) for name in ("good", "defective"))
        table.add_row(row["class"], *numbers, *(percent(row[name]) for name in _SHOWN))
    console = console or Console()
    console.print(table)
    for note in metrics["notes"]:
        console.print(f"note: {note}")
