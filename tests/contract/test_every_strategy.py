"""What every registered strategy promises: hooks around the one loop, and the numbers of a single process."""

import ast
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.registry import resolve_target
from vla.conf.strategies import StrategyConfig, StrategyRegistry
from vla.training.strategies.base_strategy import TrainStrategy

LOOP = ("run_setup", "run_training", "train_step", "accumulate", "update", "evaluate", "save_when_due")
WORKERS = Path(__file__).parents[1] / "distributed" / "workers.py"


@pytest.mark.parametrize("strategy", StrategyRegistry)
def test_fills_hooks_and_leaves_the_loop_alone(strategy: StrategyRegistry, tmp_path: Path) -> None:
    config = strategy.value()
    assert strategy.strategy_id == config.strategy_id and config.description
    target = resolve_target(config)
    assert issubclass(target, TrainStrategy)
    assert all(getattr(target, name) is getattr(TrainStrategy, name) for name in LOOP)
    cli.save(config, tmp_path / "strategy.yaml")
    assert cli.load(StrategyConfig, tmp_path / "strategy.yaml") == config


def test_every_one_is_compared_with_a_single_process() -> None:
    """`STRATEGIES` of tests/distributed holds the strategies that have to agree; none may be forgotten."""
    statements = [
        node
        for node in ast.parse(WORKERS.read_text(encoding="utf-8")).body
        if not isinstance(node, ast.FunctionDef) and "STRATEGIES" in ast.unparse(node)
    ]
    compared = {name.id for node in statements for name in ast.walk(node) if isinstance(name, ast.Name)}
    assert {member.value.__name__ for member in StrategyRegistry} <= compared
