"""How fast every process is: gathered over processes, whatever each of them has measured."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from language_toys import language_batch

from vla.overwatch.distributed import DistState
from vla.training import statistics
from vla.training.statistics import DATA_LOAD, FORWARD_BACKWARD, POST_PROCESS, StepStatistics
from vla.training.tasks.language import LanguageTask


class Clock:
    """A clock that goes on by one second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> StepStatistics:
    """Two steps: 1 s for each part, 2 s and 4 s of waiting; 40 and 30 tokens; 0 to 3 images of a sample."""
    monkeypatch.setattr(statistics.time, "perf_counter", Clock())
    found = StepStatistics("cpu")
    for measures, waited in (
        ([{"tokens": [30.0], "images_per_sample": [0.0, 3.0]}, {"tokens": [10.0], "images_per_sample": [1.0]}], 2.0),
        ([{"tokens": [30.0], "images_per_sample": [2.0]}], 6.0),
    ):
        for phase in (FORWARD_BACKWARD, POST_PROCESS):
            with found.phase(phase):
                pass
        found.add_step(measures, waited)
    return found


def test_one_process(measured: StepStatistics) -> None:
    found = measured.gathered(DistState())
    expected = {
        "tokens_per_second": (7.5, 10.0, 5.0), DATA_LOAD: (3.0, 4.0, 2.0), FORWARD_BACKWARD: (1.0, 1.0, 1.0),
        POST_PROCESS: (1.0, 1.0, 1.0), "images_per_sample": (1.5, 3.0, 0.0),
    }  # fmt: skip
    assert found == {
        f"training_stats/{kind}_{name}": pytest.approx(value)
        for name, values in expected.items()
        for kind, value in zip(("avg", "max", "min"), values, strict=True)
    }
    measured.clear()
    assert measured.gathered(DistState()) == {}


def test_several_processes(measured: StepStatistics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are those of all processes; a value that only one has counts as often as it has it."""
    other = {"tokens_per_second": (20.0, 2, 16.0, 4.0), "images_per_sample": (8.0, 1, 8.0, 8.0)}
    monkeypatch.setattr(statistics, "gather_objects", lambda value, dist: [value, other])
    found = measured.gathered(DistState(world_size=2))
    assert found["training_stats/avg_tokens_per_second"] == pytest.approx((20 + 10 + 20) / 4)
    assert found["training_stats/max_tokens_per_second"] == pytest.approx(20)
    assert found["training_stats/min_tokens_per_second"] == pytest.approx(4)
    assert found["training_stats/avg_images_per_sample"] == pytest.approx((6 + 8) / 5)
    assert found["training_stats/max_data_load_time"] == pytest.approx(4)


def test_nothing_is_measured_unless_the_task_can_say() -> None:
    found = StepStatistics("cpu", enabled=False)
    with found.phase(FORWARD_BACKWARD):
        pass
    assert found.gathered(DistState()) == {} and not found._marks[FORWARD_BACKWARD]


def test_what_a_batch_holds() -> None:
    task: Any = LanguageTask(None)
    batch = language_batch([([1, 2, 3], 1), ([1, 2], 1)], [True, False])
    assert task.measure(batch) == {"tokens": [5.0], "images_per_sample": [1.0, 0.0]}
    assert task.measure(replace(batch, attention_mask=torch.zeros(2, 3, dtype=torch.bool)))["tokens"] == [0.0]
