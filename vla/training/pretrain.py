"""The program behind scripts/pretrain.py: from a configuration to a run folder with a trained, evaluated model."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vla.conf import cli
from vla.conf.pretrain import PretrainConfig
from vla.data.materialize import get_datasets, load_processor
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.models.freezing import GroupRow, apply_stage, format_table, parameter_table
from vla.models.materialize import get_model
from vla.overwatch import initialize_overwatch, log_to_file
from vla.overwatch.distributed import DistState, barrier, broadcast_object, destroy_distributed, initialize_distributed
from vla.overwatch.file_lock import alone_with
from vla.overwatch.launch import restart_count
from vla.overwatch.peers import EXIT_CODE as LOST
from vla.overwatch.peers import PeerWatch
from vla.training.checkpoint_store import resolve_resume
from vla.training.compilation import check_compile
from vla.training.environment import describe_environment
from vla.training.evaluation_requests import check_background
from vla.training.inference import build_model
from vla.training.materialize import get_task, get_train_strategy
from vla.training.previous_stage import find_pretrained, load_pretrained, start_from_previous_stage
from vla.training.result import NonFiniteError, TrainingResult
from vla.training.run_contract import as_resumed, refuse_other_contract
from vla.training.run_names import with_run_name
from vla.training.seeding import seed_everything, set_deterministic
from vla.training.signals import REQUEUE, leaving_on_signal
from vla.training.strategies.base_strategy import TrainStrategy
from vla.training.trackers import check_trackers

overwatch = initialize_overwatch(__name__)

Decision = TypeVar("Decision")

LOCK = ".training.lock"
NOTICED_WITHIN = 5.0  # seconds after a failed collective in which the reason is known
SAVE_LIMIT = 120.0  # seconds that a save may go on when another process is gone


def run(config: PretrainConfig, write_report: Callable[[Path], Path] | None = None) -> int:
    """Train as `config` says, or print the plan of it. Every process of a launcher calls this.

    Args:
        config: the run.
        write_report: called with the run's folder at the end, in the main process; returns the report's path.

    Returns:
        Exit code: 0 when the run is complete; `REQUEUE` (75) when SIGTERM or SIGUSR1 stopped it after saving (before
        the first step and after the last one nothing is to be saved: by SystemExit), 130 when SIGINT did; 1 when the
        training broke down (not finite), when its last step could not be saved, or when another process is gone.

    Raises:
        UserError: something that the user can put right; nothing has been trained.
    """
    if config.dry_run:
        return _dry_run(config)
    with leaving_on_signal():
        return _run(config, write_report)


def _run(config: PretrainConfig, write_report: Callable[[Path], Path] | None) -> int:
    dist, together = initialize_distributed(config.device), False
    try:
        config = _agreed(lambda: with_run_name(config, dist.world_size), dist)
        with _logging_to(config.run_dir), _alone_in(config.run_dir, dist), PeerWatch(dist) as peers:
            result = _train_with_others(config, dist, peers)
        together = result is not None
    except NonFiniteError as error:  # in all processes
        together = True
        overwatch.error(f"{error}; the checkpoints before it are in {config.run_dir / 'checkpoints'}")
        return 1
    finally:
        # Where others are gone, or go on, leaving the group would wait for what was begun with them (NCCL); at the end
        # of the program it is broken off.
        if together or dist.world_size == 1:
            destroy_distributed(dist)
    if result is None:
        return LOST
    if result.save_error is not None:
        overwatch.error(f"{result.save_error}; the last good checkpoint is {result.last_checkpoint}")
    if result.interrupted:
        overwatch.info(f"stopped by {result.reason} at step {result.global_step}; --resume auto goes on from there")
        return 128 + signal.SIGINT if result.reason == "SIGINT" else REQUEUE
    if dist.is_main:
        summarise(config, dist, result)
        if config.report and write_report is not None:
            overwatch.info(f"report: {write_report(config.run_dir)}")
    return 0 if result.save_error is None else 1


def _train_with_others(config: PretrainConfig, dist: DistState, peers: PeerWatch) -> TrainingResult | None:
    """`train`; None when it failed because another process is gone, which has been logged."""
    try:
        result = train(config, dist, peers)
        barrier(dist)  # launchers end all processes when one has ended: not before everything is written
        return result
    except NonFiniteError:
        raise
    except RuntimeError:  # what a collective raises when the other side is gone
        if peers.wait_for_loss(NOTICED_WITHIN) is None:
            raise
        return None


def train(config: PretrainConfig, dist: DistState, peers: PeerWatch | None = None) -> TrainingResult:
    """Build everything, and train. The run's files are written once nothing of the user's can be wrong any more.

    Args:
        config: the run.
        dist: this process.
        peers: told what must be finished before another process's end ends this one.
    """
    strategy = build_strategy(config, dist)
    if peers is not None:
        peers.last_will = lambda: strategy.saver.finish(SAVE_LIMIT)
    if config.checkpoint.rehearse and strategy.state.global_step == 0:
        strategy.saver.rehearse()
    if dist.is_main:
        _write_run_files(strategy.config, parameter_table(strategy.model), dist)
    return strategy.run_training()


def build_strategy(config: PretrainConfig, dist: DistState) -> TrainStrategy:
    """Data, model and strategy of a run, ready to train from its start or from the checkpoint to resume."""
    check_trackers(config)
    check_background(config)
    check_compile(config, dist.device)
    set_deterministic(config.deterministic)
    seed_everything(config.seed)
    resume_from = _agreed(lambda: resolve_resume(config.run_dir, config.resume, restarted=restart_count() > 0), dist)
    config = _agreed(lambda: start_from_previous_stage(config, resume_from), dist)
    config = _agreed(lambda: as_resumed(config, resume_from), dist)
    # What is quick to check comes first: data, then whether weights can be found, then memory is taken.
    begin_with = None
    if resume_from is None and config.pretrained_checkpoint is not None:
        with _about("pretrained_checkpoint"):
            begin_with = find_pretrained(config.pretrained_checkpoint)
    processor = load_processor(resume_from) if resume_from else None
    datasets = get_datasets(config.dataset, config.model, processor, config.stage)
    refuse_other_contract(config, datasets, begin_with)
    model = _get_model(config, resume_from, begin_with)
    rows = apply_stage(model, config.stage_config)
    overwatch.info(f"stage {config.stage.value} of {type(config.model).model_id}\n{format_table(rows)}")
    strategy = get_train_strategy(config, model, dist)
    strategy.run_setup(get_task(config.model, datasets.processor), datasets, resume_from)
    return strategy


def summarise(config: PretrainConfig, dist: DistState, result: TrainingResult) -> None:
    """Evaluate the best checkpoint on the held-out episodes."""
    from vla.training.evaluate import evaluate_checkpoint

    overwatch.info(f"{result.reason} at step {result.global_step}; the run is in {config.run_dir}")
    if result.last_checkpoint is not None:
        evaluate_checkpoint(config.run_dir, dist.device)


def _dry_run(config: PretrainConfig) -> int:
    from vla.training.plan import make_plan
    from vla.training.plan_display import print_plan

    print_plan(make_plan(config))
    return 0


@contextmanager
def _logging_to(run_dir: Path) -> Iterator[None]:
    """Keep the console's lines in the run's folder; a run that the user has to correct first leaves no folder."""
    is_new = not run_dir.exists()
    try:
        log_file = log_to_file(run_dir / "console.log")
    except OSError as error:
        raise UserError(f"run_root_dir: {run_dir} can't be written ({error.strerror})") from error
    try:
        yield
    except UserError:
        if log_file is not None and is_new and {path.name for path in run_dir.iterdir()} <= {"console.log", LOCK}:
            shutil.rmtree(run_dir)
        raise
    finally:
        if log_file is not None:
            log_file.close()


@contextmanager
def _alone_in(run_dir: Path, dist: DistState) -> Iterator[None]:
    """Hold a run's folder: a job that was started again while the first one still lives would write over its files.

    Workers don't hold it: they outlive a killed training by seconds, in which it may have been started again.

    Raises:
        UserError: another training has it; in every process.
    """
    busy = f"run_id: another training is writing to {run_dir}; stop it or wait for it, or name this one otherwise"
    with ExitStack() as stack:
        _agreed(lambda: stack.enter_context(alone_with(run_dir / LOCK, busy, inherited=False)), dist)
        yield


def _agreed(decide: Callable[[], Decision], dist: DistState) -> Decision:
    """What the main process decides, in every process: others could see files come and go at another moment.

    Raises:
        UserError: the main process's, in every process, so that none waits for it.
    """
    decision: Any = None
    if dist.is_main:
        try:
            decision = decide()
        except UserError as error:
            decision = error
    decision = broadcast_object(decision, dist)
    if isinstance(decision, UserError):
        raise decision
    return decision


def _get_model(config: PretrainConfig, resume_from: Path | None, begin_with: Path | None) -> BaseModel:
    if resume_from is not None:
        with _about("resume"):
            return build_model(config.model, resume_from, config.seed)
    model = get_model(config.model, seed=config.seed)
    if begin_with is not None:
        with _about("pretrained_checkpoint"):
            load_pretrained(model, begin_with)
    return model


@contextmanager
def _about(field: str) -> Iterator[None]:
    """Errors inside name `field`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{field}: {error}") from None


def _write_run_files(config: PretrainConfig, rows: list[GroupRow], dist: DistState) -> None:
    config.run_dir.mkdir(parents=True, exist_ok=True)
    cli.save(config, config.run_dir / "config.yaml")
    table = [{"name": row.name, "total": row.total, "trainable": row.trainable} for row in rows]
    _write_json(config.run_dir / "parameters.json", table)
    _write_json(config.run_dir / "environment.json", describe_environment(dist))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
