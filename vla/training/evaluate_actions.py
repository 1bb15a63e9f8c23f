"""Open-loop evaluation: what a model predicts on held-out episodes, step by step, against what was demonstrated."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vla.data.datasets.base import Datasets
from vla.data.processor import Processor
from vla.evaluation.action import ActionSpace, action_metrics
from vla.models.base import BaseModel
from vla.training.evaluation_files import FOLDER, held_out_batches, replace_file
from vla.training.tasks.base import Task

HELD_OUT_BY = "dataset.validation_episodes"
NUM_FRAMES = 6  # moments of the stored episode with pictures


@dataclass(frozen=True)
class _Predictions:
    """What was demonstrated and predicted, [N, A] in physical units, of the first N held-out samples."""

    demonstrated: np.ndarray
    predicted: np.ndarray
    loss: float


def evaluate_run(
    model: BaseModel, processor: Processor, datasets: Datasets, task: Task, run_dir: Path, device: str, *,
    batch_size: int = 16, max_batches: int | None = None, checkpoint: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Predict every action of the held-out episodes from the demonstrated observations, in one process.

    Writes `run_dir`/evaluation/metrics.json, and episode.npz with the first episode for the report.

    Args:
        model: on `device`; its parameters are whole, not sharded.
        max_batches: stop after so many batches of `batch_size`; None: all of them.
        checkpoint: name of what is evaluated, for the record.

    Returns:
        What metrics.json holds; see `action_metrics`. Empty, and nothing is written, if nothing is held out.
    """
    if datasets.validation is None or not len(datasets.validation):
        return {}
    start, training = time.perf_counter(), model.training
    model.eval()
    try:
        found = _predict(model, processor, datasets, task, device, batch_size, max_batches)
    finally:
        model.train(training)
    mean = np.asarray(processor.statistics["actions"].mean, dtype=np.float32)
    baseline = processor.physical_actions(processor.normalize_actions(mean))
    space = ActionSpace(processor.action_names, processor.action_units)
    tensors = [torch.from_numpy(np.asarray(item)) for item in (found.predicted, found.demonstrated, baseline)]
    held_out: Any = datasets.validation
    metrics = action_metrics(space, *tensors) | {
        "checkpoint": checkpoint,
        "num_episodes": sum(episode.first_sample < len(found.predicted) for episode in held_out.episodes),
        "loss": found.loss,
        "seconds": time.perf_counter() - start,
    }
    folder = run_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _write_episode(folder / "episode.npz", datasets, processor, found)
    replace_file(folder / "metrics.json", (json.dumps(metrics, indent=2, allow_nan=True) + "\n").encode())
    return metrics


@torch.no_grad()
def _predict(
    model: Any, processor: Processor, datasets: Datasets, task: Task, device: str, batch_size: int,
    max_batches: int | None,
) -> _Predictions:  # fmt: skip
    demonstrated, predicted = [], []
    loss_sum = weight = 0.0
    for batch in held_out_batches(datasets, batch_size, max_batches):
        weight += float(task.weigh(batch))
        prepared: Any = task.prepare(batch, device)
        for source in model.feature_sources().values():  # once, for the loss and for the prediction
            prepared.features.update(source.compute(prepared))
        loss_sum += float(task.loss(model(prepared), prepared).loss_sum)
        first = model.predict(prepared)[:, 0].float().cpu()
        predicted.append(processor.physical_actions(first).numpy())
        demonstrated.append(processor.physical_actions(batch.actions[:, 0].float()).numpy())
    return _Predictions(np.concatenate(demonstrated), np.concatenate(predicted), loss_sum / max(weight, 1.0))


def _write_episode(path: Path, datasets: Datasets, processor: Processor, found: _Predictions) -> None:
    dataset: Any = datasets.validation
    length = min(dataset.episodes[0].length, len(found.predicted))
    space = ActionSpace(processor.action_names, processor.action_units)
    steps = np.unique(np.linspace(0, length - 1, NUM_FRAMES).round().astype(int))
    samples = [dataset[int(step)] for step in steps]
    cameras = processor.config.cameras
    frames = np.stack([processor.upright(np.asarray(sample["images"][-len(cameras) :])) for sample in samples])
    beside = path.with_name(f".{path.name}")
    with beside.open("wb") as file:
        np.savez_compressed(
            file,
            demonstrated=space.readable(torch.from_numpy(found.demonstrated[:length])).numpy(),
            predicted=space.readable(torch.from_numpy(found.predicted[:length])).numpy(),
            names=np.array(space.names),
            units=np.array(space.readable_units),
            instruction=np.array(samples[0]["instruction"]),
            label=np.array(dataset.sample_label(0).rpartition(" ")[0]),  # without the step
            frames=frames,
            frame_steps=steps,
            cameras=np.array(cameras),
        )
    os.replace(beside, path)


def print_metrics(metrics: dict[str, Any], console: Console | None = None) -> None:
    """Print what `evaluate_run` found as a table on the console (standard output by default)."""
    episodes, actions = metrics["num_episodes"], metrics["num_actions"]
    table = Table(title=f"{actions} actions of {episodes} held-out episode{'s' if episodes != 1 else ''}")
    for column in ("dimension", "mean absolute error", "average action", "ratio"):
        table.add_column(column, justify="left" if column == "dimension" else "right")
    for row in metrics["dimensions"]:
        ratio = f"{row['l1'] / row['l1_baseline']:.2f}" if row["l1_baseline"] else "-"
        unit = row["unit"]
        table.add_row(row["name"], f"{row['l1']:.3g} {unit}", f"{row['l1_baseline']:.3g} {unit}", ratio)
    accuracy, baseline = metrics["gripper_accuracy"], metrics["gripper_accuracy_baseline"]
    table.add_row("gripper agrees", f"{accuracy:.1%}", f"{baseline:.1%}", "")
    (console or Console()).print(table)
