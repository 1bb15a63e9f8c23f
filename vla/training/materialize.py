"""The one factory of tasks and strategies."""

from importlib import import_module
from typing import Any

from vla.conf.models import ModelConfig
from vla.conf.pretrain import PretrainConfig
from vla.conf.registry import resolve_target
from vla.errors import UserError
from vla.models.base import BaseModel
from vla.overwatch.distributed import DistState
from vla.training.strategies.base_strategy import TrainStrategy
from vla.training.tasks.base import Task

TASKS = {
    "action": "vla.training.tasks.action:ActionTask",
    "anomaly": "vla.training.tasks.anomaly:AnomalyTask",
    "language": "vla.training.tasks.language:LanguageTask",
    "vqa": "vla.training.tasks.language:LanguageTask",
}


def get_task(model_config: ModelConfig, processor: Any) -> Task:
    """The task of a model.

    Args:
        model_config: its `task` is a key of `TASKS`.
        processor: the run's, of the kind that the task's models have.

    Raises:
        UserError: there is no such task.
    """
    name = type(model_config).task
    if name not in TASKS:
        raise UserError(f"task: must be one of {', '.join(TASKS)}, got {name!r}")
    module, _, attribute = TASKS[name].partition(":")
    task: Any = getattr(import_module(module), attribute)
    return task(processor)


def get_train_strategy(config: PretrainConfig, model: BaseModel, dist: DistState) -> TrainStrategy:
    """The strategy that the stage's config names, for a model to which the stage is applied.

    Then `run_setup(task, datasets, resume_from)` and `run_training()`.
    """
    strategy: type[TrainStrategy] = resolve_target(config.stage_config.strategy)
    return strategy(config, model, dist)
