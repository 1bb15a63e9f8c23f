"""Metrics files in the published format: bytes of the original, and what a run of ours writes."""

import json
from dataclasses import replace
from pathlib import Path

import jsonlines
import pytest
import torch
import toys

from vla.training.checkpoint_store import CheckpointStore
from vla.training.prismatic_tracker import PrismaticTracker

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/prismatic/metrics.json").read_text())["metrics"]


def test_bytes_are_the_originals(tmp_path):
    now = [0.0]
    tracker = PrismaticTracker(
        tmp_path, GOLDEN["run_id"], GOLDEN["stage"], GOLDEN["hparams"], clock=lambda: now[0],
        accumulation=GOLDEN["grad_accumulation_steps"],
    )  # fmt: skip
    losses = iter(GOLDEN["micro_losses"])
    for number, seconds in enumerate(GOLDEN["step_time_increments"], start=1):
        for _ in range(GOLDEN["grad_accumulation_steps"]):
            tracker.add_micro_batch(torch.tensor(next(losses)))
        now[0] += seconds
        tracker.add_step(number, number / 1000)
    tracker.close()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == GOLDEN["files"]


def lines(config) -> list[dict]:
    with jsonlines.open(config.run_dir / f"{config.run_id}.jsonl") as file:
        return [{key: value for key, value in line.items() if "Time" not in key} for line in file]


@pytest.fixture
def configs(tmp_path):
    """Two runs of 12 steps: 2 micro-batches each, 4 steps an epoch."""
    return [
        replace(toys.resumable_config(tmp_path / name), trackers=("jsonl", "prismatic")) for name in ("one", "other")
    ]


def test_a_line_for_every_step_and_the_settings_once(configs):
    config = configs[0]
    toys.toy_strategy(config).run_training()
    written = lines(config)
    assert [line["Align/Step"] for line in written] == list(range(1, 13))
    assert written[0]["Align/Learning Rate"] == pytest.approx(config.stage_config.learning_rate / 2)  # of the next step
    assert written[-1]["Align/Learning Rate"] == 0
    logged = [line["train/loss"] for line in toys.metrics(config.run_dir) if "train/loss" in line]
    assert len(logged) == 4 and written[2]["Align/Loss"] == pytest.approx(logged[0], rel=0.05)
    (settings,) = jsonlines.open(config.run_dir / "run-metrics.jsonl")
    assert settings["run_id"] == "one" and settings["hparams"]["model"]["type"] == "toy"


def test_goes_on_with_the_same_averages(configs):
    straight, broken = configs
    toys.toy_strategy(straight).run_training()
    strategy = toys.toy_strategy(broken)
    toys.stop_at(strategy, 6)
    with pytest.raises(KeyboardInterrupt):
        strategy.run_training()
    toys.toy_strategy(broken, resume_from=CheckpointStore(broken.run_dir).path(5)).run_training()
    assert lines(broken) == lines(straight)


def test_steps_without_losses_say_none(tmp_path):
    tracker = PrismaticTracker(tmp_path, "run", "full-finetune", {})
    tracker.add_step(1, 0.5)
    tracker.close()
    (line,) = jsonlines.open(tmp_path / "run.jsonl")
    assert set(line) == {"Full-finetune/Learning Rate", "Full-finetune/Step", "Full-finetune/Step Time"}
