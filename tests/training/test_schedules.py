"""Schedules against published values and torch's own."""

import json
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import MultiStepLR, StepLR

from vla.conf.stage import ScheduleConfig
from vla.training.schedules import get_schedule, set_learning_rate, warmup_steps

FOLDER = Path(__file__).parents[1] / "golden/training"
GOLDEN = json.loads((FOLDER / "lr_schedule.json").read_text())
NANOVLM = json.loads((FOLDER / "nanovlm_lr_schedule.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["schedules"], ids=lambda case: f"{case['type']}-{case['total_steps']}")
def test_prismatic(case):
    """The rates that Prismatic and OpenVLA train with. Without warm-up they lose the first step to a rate of 0."""
    name = "constant" if case["type"] == "constant" else "cosine"
    rule = "step" if name == "constant" else "from_zero"
    config = ScheduleConfig(name=name, warmup_ratio=case["warmup_ratio"], warmup_rule=rule)
    assert warmup_steps(config, case["total_steps"]) == case["num_warmup_steps"]
    schedule = get_schedule(config, case["total_steps"])
    rates = [case["base_lr"] * schedule(step) for step in range(case["total_steps"])]
    assert rates == pytest.approx(case["lr_used_at_step"][: case["total_steps"]], rel=1e-12, abs=1e-18)
    logged = [case["base_lr"] * schedule(step + 1) for step in range(case["total_steps"])]
    assert logged == pytest.approx(case["lr_logged_after_step"][: case["total_steps"]], rel=1e-12, abs=1e-18)


def test_the_first_step_of_a_run_without_warmup():
    rates = [get_schedule(ScheduleConfig(warmup_rule=rule), 10)(0) for rule in ("step", "from_zero")]
    assert rates == [1, 0]


@pytest.mark.parametrize("case", NANOVLM["cases"], ids=lambda case: f"{case['max_lr']}-{case['max_steps']}")
def test_nanovlm(case):
    """Cosine to a tenth; the warm-up counts from 1 and lasts 3 % of all steps, in part of a step if need be."""
    config = ScheduleConfig(warmup_ratio=0.03, min_lr_ratio=0.1, warmup_rule="next_step")
    schedule = get_schedule(config, case["max_steps"])
    assert [case["max_lr"] * schedule(step) for step in case["steps"]] == pytest.approx(case["lr"], rel=1e-12)


def test_number_of_steps():
    for case in GOLDEN["num_training_steps"]:
        steps = -(-case["n_examples"] // case["global_batch_size"]) * case["epochs"]
        assert steps == case["fsdp_num_training_steps"]
        assert warmup_steps(ScheduleConfig(warmup_ratio=0.03), steps) == case["fsdp_warmup_0.03"]


def test_atlas_warmup_and_cosine():
    """The table of the AtlasVLA guide: 1,000 warm-up steps to 1e-4, then half a cosine."""
    schedule = get_schedule(ScheduleConfig(warmup_steps=1000), 5000)
    rates = [1e-4 * schedule(step) for step in (0, 250, 500, 750, 1000, 3000, 5000, 6000)]
    assert rates == pytest.approx([0, 2.5e-5, 5e-5, 7.5e-5, 1e-4, 5e-5, 0, 0], rel=1e-12, abs=1e-20)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_floor(name):
    schedule = get_schedule(ScheduleConfig(name=name, min_lr_ratio=0.1), 100)
    assert schedule(0) == 1 and schedule(50) == pytest.approx(0.55) and schedule(100) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (ScheduleConfig(name="step", step_size=7, gamma=0.3), lambda o: StepLR(o, 7, 0.3)),
        (ScheduleConfig(name="multistep", milestones=(3, 11), gamma=0.5), lambda o: MultiStepLR(o, [3, 11], 0.5)),
    ],
)
def test_decays_as_torch(config, reference):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, schedule = reference(optimizer), get_schedule(config, 30)
    for step in range(30):
        assert 0.1 * schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_groups_keep_their_own_rates():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "initial_lr": rate} for rate in (1.0, 0.1)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    for factor in (0.0, 0.5):
        set_learning_rate(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [factor, pytest.approx(0.1 * factor)]


def test_decays_counted_in_epochs():
    """UniAD's scheduler is told the number of the epoch that is over: its decay after 800 comes after 801."""
    config = ScheduleConfig(name="multistep", milestones=(801,), unit="epochs")
    schedule = get_schedule(config, 1000 * 454, steps_per_epoch=454)
    assert [schedule(801 * 454 - 1), schedule(801 * 454)] == pytest.approx([1, 0.1])
    schedule = get_schedule(ScheduleConfig(name="step", step_size=3, unit="epochs"), 90, steps_per_epoch=10)
    assert [schedule(29), schedule(30), schedule(60)] == pytest.approx([1, 0.1, 0.01])
