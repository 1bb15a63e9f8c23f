"""A stage's choice of module groups applied to a model, and the table that shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vla.conf.stage import StageConfig
from vla.errors import UserError
from vla.models.base import BaseModel


@dataclass(frozen=True)
class GroupRow:
    """One line of the parameter table."""

    name: str
    total: int  # parameters
    trainable: int


def apply_stage(model: BaseModel, stage: StageConfig) -> list[GroupRow]:
    """
    Make the stage's groups, or parts of groups, train and freeze the others.

    Groups that are frozen as a whole stay in evaluation mode from now on.

    Works on any device, meta included; call it again to change the stage.

    Args:
        model: Changed in place: `requires_grad`, `frozen_groups`, and the mode of its modules.
        stage: Names the groups and parts to train.

    Returns:
        A row per module group.

    Raises:
        UserError: A group or part is unknown, or nothing would train.
    """
    groups, parts = model.module_groups(), model.module_parts()
    for name in stage.trainable:
        if name not in groups and name not in parts:
            raise UserError(f"trainable: must be of {', '.join((*groups, *parts))}, got {name!r}")
    chosen = frozenset().union(*(parts[name] for name in stage.trainable if name in parts))
    unused = model.unused_parameters() | model.frozen_parameters
    for name, parameter in model.named_parameters():
        trains = name in chosen or _group_of(name, groups) in stage.trainable
        parameter.requires_grad_(trains and name not in unused)
    rows = parameter_table(model)
    if not any(row.trainable for row in rows):
        raise UserError(f"trainable: nothing would train, got {stage.trainable!r}; name some of {', '.join(groups)}")
    model.frozen_groups = frozenset(groups) - stage.trained_groups
    model.train(model.training)
    return rows


def parameter_table(model: BaseModel) -> list[GroupRow]:
    """A row per module group, as the model stands."""
    rows = []
    for name, module in model.module_groups().items():
        counts = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
        rows.append(GroupRow(name, sum(n for n, _ in counts), sum(n for n, trains in counts if trains)))
    return rows


def format_table(rows: Sequence[GroupRow]) -> str:
    """The rows as aligned text with a line of totals."""
    total = GroupRow("total", sum(row.total for row in rows), sum(row.trainable for row in rows))
    lines = [("module group", "parameters", "trainable", "")]
    lines += [(row.name, f"{row.total:,}", f"{row.trainable:,}", _state(row)) for row in (*rows, total)]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {count:>{widths[1]}}  {trains:>{widths[2]}}  {state}".rstrip()
        for name, count, trains, state in lines
    )


def _state(row: GroupRow) -> str:
    if row.trainable == 0:
        return "frozen"
    return "trains" if row.trainable == row.total else "trains in part"


def _group_of(parameter: str, groups: Mapping[str, object]) -> str:
    """The group that holds a parameter; groups are direct children of the model."""
    name = parameter.partition(".")[0]
    if name not in groups:
        raise ValueError(f"parameter {parameter!r} belongs to no module group ({', '.join(groups)})")
    return name
