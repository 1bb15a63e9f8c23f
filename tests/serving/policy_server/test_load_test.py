"""The load test of scripts/bench.py sees what is lost and what is crossed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from served_policies import EchoPolicy, frame

from vla.evaluation.simulator.messages import Episode, PolicyInput

BENCHMARKS = Path(__file__).resolve().parents[3] / "scripts" / "benchmarks"


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark's module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving

    monkeypatch.delitem(sys.modules, "serving")
    return serving


class Confused(EchoPolicy):
    """Says to those that are told "other" what it should say to their neighbour, and nothing to "fail"."""

    def act(self, inputs: list[PolicyInput]) -> np.ndarray:
        chunks = super().act(inputs)
        for chunk, item in zip(chunks, inputs, strict=True):
            chunk[:, 0] += item.instruction == "other"
        return chunks


def test_every_answer_is_compared(serving: ModuleType, start: Any) -> None:
    count = 3 * serving.DISTINCT
    told = ["x"] * count
    observations = [
        PolicyInput(frame(index)[None], np.zeros(8), "x", Episode("served", 0, 0, index), 0) for index in range(count)
    ]
    expected = EchoPolicy().act(observations)
    server = start(Confused(), max_batch=4)
    url = server.url.replace("http", "ws")

    def run() -> tuple[int, int, int]:
        asked = [
            PolicyInput(item.images, item.proprio, text, item.episode, 0)
            for item, text in zip(observations, told, strict=True)
        ]
        test = serving.LoadTest(url, asked, expected)
        seconds, wall = test.run(3, serving.DISTINCT)
        assert 0 < max(seconds) <= wall
        return len(seconds), test.lost, test.crossed

    assert run() == (count, 0, 0)
    told[1] = told[5] = "other"
    expected[[1, 5], :, 3] = 5
    told[6] = "fail"
    assert run() == (count - 1, 1, 2)


def test_figures(serving: ModuleType) -> None:
    row = serving.row("8 clients", [0.01, 0.02, 0.03, 0.04], 0.5, 8, {"lost": 0, "crossed": 0})
    assert row["p50_ms"] == pytest.approx(25) and row["actions_per_second"] == 64 and row["answers"] == 4
    assert row["p50_ms"] < row["p95_ms"] < row["p99_ms"] < 40
