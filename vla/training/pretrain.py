"""The program behind scripts/pretrain.py: from a configuration to a run folder with a trained, evaluated model."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig
from vla.data.materialize import get_datasets
from vla.data.processor import Processor
from vla.models.base import BaseModel
from vla.models.freezing import GroupRow, apply_stage, format_table
from vla.models.materialize import get_model
from vla.overwatch import initialize_overwatch, log_to_file
from vla.overwatch.distributed import DistState, broadcast_object, destroy_distributed, initialize_distributed
from vla.training.checkpoint import load_weights
from vla.training.checkpoint_store import find_checkpoint, resolve_resume
from vla.training.environment import describe_environment
from vla.training.materialize import get_task, get_train_strategy
from vla.training.result import NonFiniteError, TrainingResult
from vla.training.seeding import seed_everything, set_deterministic

overwatch = initialize_overwatch(__name__)


def run(config: PretrainConfig) -> int:
    """Train as `config` says, or print the plan of it. Every process of a launcher calls this.

    Returns:
        Exit code: 0 when the run is complete; 128 + the signal's number when a signal stopped it after saving; 1 when
        the training broke down (not finite).

    Raises:
        UserError: something that the user can put right; nothing has been trained.
    """
    if config.dry_run:
        return _dry_run(config)
    dist = initialize_distributed(config.device)
    log_file = log_to_file(config.run_dir / "console.log") if dist.is_main else None
    try:
        result = train(config, dist)
    except NonFiniteError as error:
        overwatch.error(f"{error}; the checkpoints before it are in {config.run_dir / 'checkpoints'}")
        return 1
    finally:
        destroy_distributed(dist)
        if log_file is not None:
            log_file.close()
    if result.interrupted:
        overwatch.info(f"stopped by {result.reason} at step {result.global_step}; --resume auto goes on from there")
        return 128 + signal.Signals.__members__.get(result.reason, signal.SIGTERM)
    if dist.is_main:
        summarise(config, dist, result)
    return 0


def train(config: PretrainConfig, dist: DistState) -> TrainingResult:
    """Build everything, and train. The run folder is made as soon as nothing of the user's can be wrong any more."""
    set_deterministic(config.deterministic)
    seed_everything(config.seed)
    resume_from = _agreed(lambda: resolve_resume(config.run_dir, config.resume), dist)
    # What is quick to check comes first: data, then whether weights can be found, then memory is taken.
    processor = Processor.load(resume_from) if resume_from else None
    datasets = get_datasets(config.dataset, config.model, processor)
    model = get_model(config.model, seed=config.seed)
    if config.pretrained_checkpoint is not None and resume_from is None:
        _load_earlier_stage(model, config.pretrained_checkpoint)
    rows = apply_stage(model, config.stage_config)
    overwatch.info(f"stage {config.stage.value} of {type(config.model).model_id}\n{format_table(rows)}")
    task = get_task(config.model, datasets.processor)
    strategy = get_train_strategy(config, model, dist)
    strategy.run_setup(task, datasets, resume_from)
    if dist.is_main:
        _write_run_files(config, rows, dist)
    return strategy.run_training()


def summarise(config: PretrainConfig, dist: DistState, result: TrainingResult) -> None:
    """Evaluate the best checkpoint on the held-out episodes, and write the report."""
    from vla.reporting import write_report
    from vla.training.evaluate import evaluate_checkpoint

    overwatch.info(f"{result.reason} at step {result.global_step}; the run is in {config.run_dir}")
    if result.last_checkpoint is not None:
        evaluate_checkpoint(config.run_dir, dist.device)
    if config.report:
        overwatch.info(f"report: {write_report(config.run_dir)}")


def _dry_run(config: PretrainConfig) -> int:
    from vla.training.plan import make_plan
    from vla.training.plan_display import print_plan

    print_plan(make_plan(config))
    return 0


def _agreed(decide: Callable[[], Any], dist: DistState) -> Any:
    """What the main process decides, in every process: others could see files come and go at another moment."""
    return broadcast_object(decide() if dist.is_main else None, dist)


def _load_earlier_stage(model: BaseModel, path: Path) -> None:
    folder = find_checkpoint(path, prefer="best")
    groups = load_weights(model, folder)
    overwatch.info(f"weights of {', '.join(groups)} from {folder}")


def _write_run_files(config: PretrainConfig, rows: list[GroupRow], dist: DistState) -> None:
    config.run_dir.mkdir(parents=True, exist_ok=True)
    cli.save(config, config.run_dir / "config.yaml")
    table = [{"name": row.name, "total": row.total, "trainable": row.trainable} for row in rows]
    _write_json(config.run_dir / "parameters.json", table)
    _write_json(config.run_dir / "environment.json", describe_environment(dist))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
