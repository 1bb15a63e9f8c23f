"""A plan as people read it."""

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vla.conf.strategies import FSDPFullShardConfig
from vla.training.plan import Plan

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: list[float]) -> str:
    """Values as a row of small bars; the highest is full, 0 is the lowest."""
    top = max(values, default=0.0)
    if top <= 0:
        return _BLOCKS[0] * len(values)
    return "".join(_BLOCKS[min(int(value / top * len(_BLOCKS)), len(_BLOCKS) - 1)] for value in values)


def size(num_bytes: int) -> str:
    """Bytes in a binary unit with three digits."""
    value, units = float(num_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1000 and len(units) > 1:  # "0.98 GiB" rather than "1000 MiB"
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.3g} {units[0]}"


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Print the plan on the console (standard output by default)."""
    console = console or Console()
    config = plan.config
    model, dataset = type(config.model).model_id, type(config.dataset).dataset_id
    console.print(Text.assemble(("Plan of ", "bold"), (config.resolved_run_id, "bold cyan"), " (nothing is run)"))
    console.print(f"{model} on {dataset}, stage {config.stage.value}\n", highlight=False)
    for title, part in (
        ("Parameters by module group", _parameters(plan)),
        ("Steps", _steps(plan)),
        ("Learning rate", _learning_rate(plan)),
        ("Memory per device", _memory(plan)),
    ):
        console.print(Text(title, style="bold"))
        console.print(Padding(part, (0, 0, 1, 2)))
    console.print(Text("Assumptions", style="bold"))
    for assumption in plan.assumptions:
        console.print(Padding(Text(f"- {assumption}"), (0, 0, 0, 2)))


def _table(*columns: str) -> Table:
    """A table whose first column is words and whose other named ones are numbers; without names, no header."""
    named = bool(columns[0])
    table = Table(box=box.SIMPLE_HEAD if named else None, show_header=named, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if column and index else "left", no_wrap=True)
    return table


def _parameters(plan: Plan) -> Table:
    table = _table("group", "total", "trainable", "frozen", "rate")
    stage = plan.config.stage_config
    for row in plan.groups:
        rate = plan.learning_rate * stage.lr_multipliers.get(row.name, 1.0)
        frozen = row.total - row.trainable
        table.add_row(
            row.name,
            f"{row.total:,}",
            f"{row.trainable:,}",
            f"{frozen:,}",
            f"{rate:.3g}" if row.trainable else "frozen",
        )
    total, trainable = sum(row.total for row in plan.groups), sum(row.trainable for row in plan.groups)
    table.add_section()
    table.add_row("all", f"{total:,}", f"{trainable:,}", f"{total - trainable:,}", "", style="bold")
    return table


def _steps(plan: Plan) -> Table:
    stage = plan.config.stage_config
    table = _table("", "")
    product = (
        f"{stage.per_device_batch_size} per device x {plan.accumulation} accumulation x {plan.world_size} processes"
    )
    table.add_row("global batch", f"{stage.global_batch_size} = {product}")
    table.add_row("training samples", "unknown" if plan.num_samples is None else f"{plan.num_samples:,}")
    table.add_row("steps per epoch", "unknown" if plan.steps_per_epoch is None else f"{plan.steps_per_epoch:,}")
    how = "max_steps" if stage.max_steps else f"{stage.epochs} epochs"
    table.add_row("steps in all", f"unknown ({how})" if plan.total_steps is None else f"{plan.total_steps:,} ({how})")
    return table


def _learning_rate(plan: Plan) -> Group:
    schedule, rates = plan.config.stage_config.schedule, plan.rates
    warmup = f"{schedule.warmup_steps} steps" if schedule.warmup_steps is not None else f"{schedule.warmup_ratio:.1%}"
    head = Text(f"{schedule.name}, base {plan.learning_rate:.3g}, warm-up {warmup}, floor {schedule.min_lr_ratio:.1%}")
    table = _table("", "", "")
    for name, when, rate in rates.points:
        table.add_row(name, when, f"{rate:.3g}")
    return Group(head, Text(sparkline(rates.values), style="cyan"), Text(f"over {rates.span}"), table)


def _memory(plan: Plan) -> Table:
    memory, stage = plan.memory, plan.config.stage_config
    table = _table("", "", "")
    table.add_row("weights", size(memory.weights), "")
    table.add_row("gradients", size(memory.gradients), "")
    table.add_row("optimizer states", size(memory.optimizer), stage.optimizer.name)
    if memory.copies:
        sharded = isinstance(stage.strategy, FSDPFullShardConfig)
        table.add_row("gathered weights" if sharded else "weights for autocast", size(memory.copies), stage.precision)
    activations = "unknown" if memory.activations is None else size(memory.activations)
    recompute = ", gradient checkpointing" if stage.gradient_checkpointing else ""
    table.add_row("activations", activations, f"{stage.per_device_batch_size} samples, {stage.precision}{recompute}")
    strategy = f"{type(stage.strategy).strategy_id}, {plan.world_size} processes"
    table.add_row(
        "in all", ("at least " if memory.activations is None else "") + size(memory.total), strategy, style="bold"
    )
    return table
