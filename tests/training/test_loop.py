"""The loop: when it evaluates, saves and stops, and what it does with windows that teach nothing."""

import math
from dataclasses import replace

import pytest
import torch
from toys import metrics, toy_config, toy_datasets, toy_model, toy_strategy

from vla.conf.pretrain import CheckpointConfig, EvaluationConfig, PretrainConfig
from vla.conf.stage import ScheduleConfig
from vla.training.early_stopping import BestMetric
from vla.training.intervals import Interval
from vla.training.lr_range_test import lr_range_test
from vla.training.state import TrainerState
from vla.training.window import weigh_window


def steps_with(config: PretrainConfig, key: str) -> list[int]:
    return [line["global_step"] for line in metrics(config.run_dir) if key in line]


def train(config: PretrainConfig, **options):
    strategy = toy_strategy(config, **options)
    return strategy, strategy.run_training()


def test_intervals():
    state, seen = TrainerState(total_steps=9, steps_per_epoch=4), {}
    while not state.finished:
        state.advance()
        for name, interval in {"steps": Interval(3, None), "epochs": Interval(None, 2), "never": Interval()}.items():
            if interval.due(state):
                seen.setdefault(name, []).append(state.global_step)
    assert seen == {"steps": [3, 6, 9], "epochs": [8, 9], "never": [9]}


def test_defaults_evaluate_and_save_every_epoch(tmp_path):
    config = toy_config(tmp_path / "run")
    strategy, result = train(config)
    assert steps_with(config, "train/loss") == list(range(1, 9))
    assert steps_with(config, "eval/loss") == [4, 8]
    assert strategy.store.steps() == [4, 8]
    assert (result.reason, result.global_step, result.interrupted) == ("completed", 8, False)
    assert result.last_checkpoint == strategy.store.path(8)


def test_steps_and_epochs_of_logs_evaluations_and_saves(tmp_path):
    config = replace(
        toy_config(tmp_path / "run", max_steps=10), log_every_steps=4,
        evaluation=EvaluationConfig(every_steps=3, every_epochs=2),
        checkpoint=CheckpointConfig(every_steps=5, every_epochs=None, keep_last=9, keep_best=False),
    )  # fmt: skip
    strategy, _ = train(config)
    assert steps_with(config, "train/loss") == [4, 8, 10]
    assert steps_with(config, "eval/loss") == [3, 6, 8, 9, 10]
    assert strategy.store.steps() == [5, 10]


def test_logs_once_per_epoch(tmp_path):
    config = replace(toy_config(tmp_path / "run", max_steps=10), log_every_steps=None, log_every_epochs=1)
    train(config)
    assert steps_with(config, "train/loss") == [4, 8, 10]


def test_max_steps_wins_over_epochs(tmp_path):
    strategy, result = train(toy_config(tmp_path / "run", max_steps=6, epochs=1))
    assert result.global_step == 6 and (strategy.state.epoch, strategy.state.step_in_epoch) == (1, 2)


def test_partial_last_window_steps(tmp_path):
    """28 samples by 8 leave 4: the fourth step has one micro-batch instead of two, and is a step like all others."""
    config = toy_config(tmp_path / "run", epochs=1, max_steps=4)
    strategy = toy_strategy(config)
    sizes, step = [], strategy.train_step
    strategy.train_step = lambda window, weights: (
        sizes.append([len(batch) for batch in window]),
        step(window, weights),
    )
    strategy.run_training()
    assert sizes == [[4, 4], [4, 4], [4, 4], [4]]


def test_gradient_is_that_of_the_global_batch(tmp_path):
    """However 8 samples are cut, masks and all, the first gradient is that of their values' mean."""
    norms = {}
    for size in (8, 4, 2, 1):
        config = toy_config(tmp_path / f"{size}", per_device_batch_size=size, max_steps=1, max_grad_norm=None)
        train(config)
        norms[size] = metrics(config.run_dir)[0]["train/grad_norm"]
    assert list(norms.values()) == pytest.approx([norms[8]] * 4, rel=1e-6)


def test_mean_of_means(tmp_path):
    config = toy_config(tmp_path / "run", loss_reduction="microbatch")
    strategy = toy_strategy(config)
    window = next(strategy.feed.windows(strategy.state))
    weights = weigh_window(strategy.task, window, "microbatch", False, strategy.dist)
    counts = [batch.action_mask.sum().item() for batch in window]
    assert weights.total == 2 and weights.shares == [1 / count for count in counts]
    strategy.run_training()
    model = toy_model(config)
    means = []
    for batch in window:
        prepared = strategy.prepare(replace(batch, features={}), "train")
        with torch.no_grad():
            loss = strategy.task.loss(model(prepared), prepared).loss_sum
        means.append(loss.item() / batch.action_mask.sum().item())
    assert metrics(config.run_dir)[0]["train/loss"] == pytest.approx(sum(means) / 2, rel=1e-5)


def test_window_without_values_is_skipped_and_counted(tmp_path):
    config = toy_config(tmp_path / "run", epochs=1)
    strategy, result = train(config, datasets=toy_datasets(masked=lambda index: True, validation=0))
    assert result.global_step == strategy.state.skipped_steps == 4
    assert metrics(config.run_dir)[-1]["train/skipped_steps"] == 4
    start = toy_model(config).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in strategy.model.state_dict().items())


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_clipping(tmp_path, limit):
    config = toy_config(tmp_path / "run", max_grad_norm=limit, max_steps=1)
    strategy = toy_strategy(config)
    norms, step = [], strategy.optimizer_step
    parameters = [parameter for parameter in strategy.model.parameters() if parameter.requires_grad]
    strategy.optimizer_step = lambda: (
        norms.append(torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters]).item()), step()
    )  # fmt: skip
    strategy.run_training()
    logged = metrics(config.run_dir)[0]["train/grad_norm"]
    assert norms[0] == pytest.approx(limit or logged, rel=1e-3) and logged > 0.1


def test_best_metric():
    best = BestMetric(EvaluationConfig(mode="max", metric="m", min_delta=0.1, patience=2))
    history = [best.update({"m": value}, step) for step, value in enumerate([0.1, 0.15, 0.3, math.nan, 0.35])]
    assert history == [True, False, True, False, False] and best.should_stop
    assert (best.value, best.step) == (0.3, 2)
    copy = BestMetric(best.config)
    copy.load_state_dict(best.state_dict())
    assert copy.should_stop and copy.update({"m": 0.4}, 5) is not None and not copy.should_stop
    with pytest.raises(ValueError, match=r"evaluation.metric: must be one of the evaluation's \(a, b\), got 'm'"):
        best.update({"a": 1.0, "b": 2.0}, 6)


def test_early_stopping(tmp_path):
    """Without a learning rate nothing improves: the first evaluation is the best, and its checkpoint stays."""
    config = toy_config(tmp_path / "run", epochs=50, learning_rate=1e-12)
    config = replace(config, evaluation=EvaluationConfig(patience=3, min_delta=1e-3))
    strategy, result = train(config)
    assert result.reason == "early stopping" and result.global_step == 16 and not result.interrupted
    assert result.best_checkpoint == strategy.store.path(4) and strategy.store.steps() == [4, 12, 16]


def test_improvement_is_saved_at_once(tmp_path):
    config = replace(toy_config(tmp_path / "run"), evaluation=EvaluationConfig(every_steps=1, every_epochs=None))
    strategy, result = train(config)
    best = min(metrics(config.run_dir), key=lambda line: line.get("eval/loss", math.inf))
    assert result.best_checkpoint == strategy.store.path(best["global_step"])
    assert result.best_value == best["eval/loss"]


def test_evaluation_of_a_part(tmp_path):
    config = toy_config(tmp_path / "run")
    config = replace(config, evaluation=EvaluationConfig(max_batches=1))
    strategy = toy_strategy(config, datasets=toy_datasets(validation=20))
    ids = [batch.sample_ids.tolist() for batch in strategy.feed.evaluation_batches()]
    assert sorted(map(len, ids)) == [4, 4]
    assert ids == [batch.sample_ids.tolist() for batch in strategy.feed.evaluation_batches()]


def test_no_validation_data(tmp_path):
    strategy, result = train(toy_config(tmp_path / "run"), datasets=toy_datasets(validation=0))
    assert result.best_checkpoint is None and result.last_checkpoint == strategy.store.path(8)
    with pytest.raises(ValueError, match="holds no episodes out"):
        strategy.evaluate()


def test_range_test(tmp_path):
    config = toy_config(tmp_path / "run", schedule=ScheduleConfig(name="constant"))
    result = lr_range_test(toy_strategy(config), start=1e-6, end=100.0, steps=60)
    assert 10 < len(result.losses) <= 60
    assert result.learning_rates[0] == pytest.approx(1e-6)
    ratios = [b / a for a, b in zip(result.learning_rates, result.learning_rates[1:], strict=False)]
    assert ratios == pytest.approx([1e8 ** (1 / 59)] * len(ratios))
    assert 1e-4 < result.suggestion < 1.0
