"""Evaluation of a trained model on the data that its run held out, in the way of its task."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from vla.conf import cli
from vla.conf.evaluate import EvaluateConfig
from vla.conf.pretrain import PretrainConfig
from vla.data.contract import refuse_other_data
from vla.data.materialize import get_datasets
from vla.errors import UserError
from vla.overwatch.distributed import destroy_distributed, initialize_distributed

# By task, a module with `evaluate_run`, `print_metrics` and `HELD_OUT_BY`, the field by which data is held out.
EVALUATORS = {
    "action": "vla.training.evaluate_actions",
    "anomaly": "vla.training.evaluate_anomaly",
    "language": "vla.training.evaluate_language",
    "vqa": "vla.training.evaluate_language",
}


def get_evaluator(task: str) -> Any:
    """How models of a task are evaluated.

    Raises:
        UserError: they aren't.
    """
    if task not in EVALUATORS:
        raise UserError(f"task: must be one of {', '.join(EVALUATORS)}, got {task!r}")
    return import_module(EVALUATORS[task])


def run_dir_of(checkpoint: Path) -> Path:
    """The run folder that a checkpoint folder lies in; the checkpoint itself if it was taken out of its run."""
    return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint


def evaluate_checkpoint(
    path: Path, device: str, *, output_dir: Path | None = None, dataset_root: Path | None = None, batch_size: int = 16,
    max_batches: int | None = None, override_contract: tuple[str, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """`evaluate_run` for the model of `path`, a run folder (its best checkpoint, else its last) or a checkpoint.

    Args:
        output_dir: where `evaluation/` is written; None: the run's folder.
        dataset_root: the data, if it isn't where it was in training any more.
        override_contract: fields in which the data may differ from what the checkpoint was made for.

    Raises:
        UserError: there is no complete checkpoint, or it was made for other data.
        ValueError: the data can't be read.
    """
    from vla.training.checkpoint_store import find_checkpoint
    from vla.training.inference import load_for_inference
    from vla.training.materialize import get_task

    folder = find_checkpoint(path, prefer="best")
    trained, processor, model = load_for_inference(folder, device)
    evaluator = get_evaluator(type(trained.model).task)
    dataset: Any = trained.dataset
    if dataset_root is not None:
        dataset = with_root(dataset, dataset_root)
    datasets = get_datasets(dataset, trained.model, processor, trained.stage)
    refuse_other_data(datasets, override_contract)
    metrics: dict[str, Any] = evaluator.evaluate_run(
        model, processor, datasets, get_task(trained.model, processor), output_dir or run_dir_of(folder), device,
        batch_size=batch_size, max_batches=max_batches, checkpoint=folder.name,
    )  # fmt: skip
    return metrics


def with_root(dataset: Any, root: Path) -> Any:
    """A dataset's configuration with its data in a folder, also where it came from a hub."""
    return replace(dataset, root=root, **({"hub": None} if hasattr(dataset, "hub") else {}))


def held_out_field(run: PretrainConfig) -> str:
    """The field of a run's data by which some of it is held out, for errors."""
    if hasattr(run.dataset, "validation_samples"):
        return "dataset.validation_samples"
    name: str = get_evaluator(type(run.model).task).HELD_OUT_BY
    return name


def run(config: EvaluateConfig, write_report: Callable[[Path], Path] | None = None) -> int:
    """The program behind scripts/evaluate.py: load, evaluate, print, and write the report anew.

    Args:
        write_report: called with the folder that holds `evaluation/`; returns the report's path.
    """
    from vla.training.checkpoint import CONFIG
    from vla.training.checkpoint_store import find_checkpoint

    assert config.checkpoint is not None
    folder = find_checkpoint(config.checkpoint, prefer="best")
    trained = cli.load(PretrainConfig, folder / CONFIG)
    evaluator = get_evaluator(type(trained.model).task)
    output_dir = config.output_dir or run_dir_of(folder)
    dist = initialize_distributed(config.device)
    try:
        metrics = evaluate_checkpoint(
            folder, dist.device, output_dir=output_dir, dataset_root=config.dataset_root, batch_size=config.batch_size,
            max_batches=config.max_batches, override_contract=config.override_contract,
        )  # fmt: skip
    finally:
        destroy_distributed(dist)
    if not metrics:
        raise UserError(f"{held_out_field(trained)}: must be > 0 in training for data to be held out, got 0")
    evaluator.print_metrics(metrics)
    if write_report is not None:
        print(f"report: {write_report(output_dir)}")
    return 0
