"""Learning-rate range test (Smith, arXiv 1506.01186): which rates make the loss fall, found in a few steps."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from vla.conf.lr_range_test import LRRangeTestConfig
from vla.overwatch.distributed import destroy_distributed, initialize_distributed
from vla.training.strategies.base_strategy import TrainStrategy
from vla.training.window import weigh_window


@dataclass(frozen=True)
class RangeTest:
    """Result of a range test."""

    learning_rates: list[float]
    losses: list[float]  # smoothed
    suggestion: float | None  # where the loss falls most steeply; None if it never falls


def lr_range_test(
    strategy: TrainStrategy, *, start: float = 1e-7, end: float = 1.0, steps: int = 100, smoothing: float = 0.9,
    divergence: float = 4.0,
) -> RangeTest:  # fmt: skip
    """Train with a learning rate that grows exponentially, and watch the loss.

    The strategy is used up: its model has been trained with every rate. It must be set up and not have trained yet;
    all processes call this.

    Args:
        start, end: first and last learning rate.
        steps: optimizer steps, at least 2.
        smoothing: decay in [0, 1) of the moving average of the loss.
        divergence: the test ends when the loss is this many times its lowest value.
    """
    state, base = strategy.state, strategy.base_learning_rate
    state.total_steps = steps
    strategy.schedule = lambda step: start / base * (end / start) ** (step / (steps - 1))
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    strategy.model.train()
    for window in strategy.feed.windows(state):
        weights = weigh_window(strategy.task, window, strategy.stage.loss_reduction, False, strategy.dist)
        strategy.train_step(window, weights)
        loss = strategy.monitor.sums.means(strategy.dist).get("loss", math.nan)
        strategy.monitor.sums.clear()
        average = smoothing * average + (1 - smoothing) * loss
        rates.append(base * strategy.schedule(state.global_step))
        losses.append(average / (1 - smoothing ** len(rates)))  # without the pull towards 0 at the beginning
        state.advance()
        if not losses[-1] <= divergence * min(losses):
            break
    return RangeTest(rates, losses, _steepest(rates, losses))


def _steepest(rates: list[float], losses: list[float]) -> float | None:
    if len(rates) < 2:
        return None
    slopes = torch.gradient(torch.tensor(losses), spacing=(torch.tensor(rates).log(),))[0]
    place = int(slopes.argmin())
    return rates[place] if slopes[place] < 0 else None


def run(config: LRRangeTestConfig, plot: Callable[[list[float], list[float], float | None, Path], None]) -> int:
    """The program behind scripts/lr_range_test.py. Every process of a launcher calls this.

    Args:
        config: the run to find a learning rate for, and the range.
        plot: draws rates, losses and suggestion into a file.
    """
    from vla.training.pretrain import build_strategy

    test = replace(config, run_id=f"{config.resolved_run_id}+lr-range-test", resume=None)
    dist = initialize_distributed(config.device)
    try:
        strategy = build_strategy(test, dist)
        result = lr_range_test(strategy, start=config.range_start, end=config.range_end, steps=config.range_steps)
    finally:
        destroy_distributed(dist)
    if dist.is_main:
        test.run_dir.mkdir(parents=True, exist_ok=True)
        (test.run_dir / "lr_range_test.json").write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
        picture = test.run_dir / "lr_range_test.png"
        plot(result.learning_rates, result.losses, result.suggestion, picture)
        found = "the loss never falls" if result.suggestion is None else f"suggestion {result.suggestion:.2e}"
        print(f"learning rate: {found} (where the loss falls most steeply); {picture}")
    return 0
