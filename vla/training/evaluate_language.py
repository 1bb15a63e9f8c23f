"""Evaluation of language models: how well they foresee the held-out answers, token by token."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vla.data.datasets.base import Datasets
from vla.models.base import BaseModel
from vla.overwatch.distributed import DistState
from vla.training.evaluation_files import FOLDER, held_out_batches, replace_file
from vla.training.tasks.base import Task

HELD_OUT_BY = "dataset.validation_fraction"
_ROWS = {
    "loss": "loss per token (nats)", "multimodal_loss": "of rows with an image", "text_loss": "of rows without one",
    "perplexity": "perplexity", "token_accuracy": "tokens foreseen",
}  # fmt: skip


def evaluate_run(
    model: BaseModel, processor: Any, datasets: Datasets, task: Task, run_dir: Path, device: str, *,
    batch_size: int = 16, max_batches: int | None = None, checkpoint: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Loss, perplexity and token accuracy on the held-out rows, in one process; see `LanguageTask.evaluate`.

    Writes `run_dir`/evaluation/metrics.json.

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
    start, training, counts = time.perf_counter(), model.training, [0, 0]

    def prepared() -> Any:
        for batch in held_out_batches(datasets, batch_size, max_batches):
            counts[0] += len(batch)
            counts[1] += int(task.weigh(batch))
            yield task.prepare(batch, device)

    model.eval()
    try:
        found = task.evaluate(model, prepared(), DistState(device=device))
    finally:
        model.train(training)
    metrics = {name.removeprefix("eval/"): value for name, value in found.items()} | {
        "checkpoint": checkpoint, "num_samples": counts[0], "num_tokens": counts[1],
        "seconds": time.perf_counter() - start,
    }  # fmt: skip
    folder = run_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    return metrics


def print_metrics(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print what `evaluate_run` found as a table on the console (standard output by default)."""
    table = Table(title=f"{metrics['num_tokens']:,} tokens of {metrics['num_samples']:,} held-out samples")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, label in _ROWS.items():
        if name in metrics:
            table.add_row(label, f"{metrics[name]:.1%}" if name == "token_accuracy" else f"{metrics[name]:.4g}")
    (console or Console()).print(table)
