"""The queue: company, limits, failures, and the end."""

import threading
from typing import Any

import numpy as np
import pytest
from served_policies import EchoPolicy, frame

from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.serving.policy_server.batching import Batcher, BusyError, PredictionError, StoppingError
from vla.serving.watching.watcher import Verdict


def asked(value: int = 0, instruction: str = "x", size: int = 16) -> PolicyInput:
    return PolicyInput(frame(value, size)[None], np.zeros(8), instruction, Episode("served", 0, 0), 0)


def held(**options: Any) -> tuple[EchoPolicy, Batcher]:
    """A policy that answers nothing before its gate opens."""
    policy = EchoPolicy()
    policy.gate.clear()
    return policy, Batcher(policy.act, **options)


def test_those_that_wait_are_predicted_together() -> None:
    policy, batcher = held(max_batch=4, wait_seconds=0.001)
    first = batcher.submit(asked(99))
    while batcher.waiting:  # it is at work
        threading.Event().wait(0.001)
    futures = [batcher.submit(asked(value)) for value in range(6)]
    policy.gate.set()
    assert first.result(20).actions[0, 0] == 99
    answers = [future.result(20) for future in futures]
    assert [answer.actions[0, 0] for answer in answers] == list(range(6))
    assert policy.asked == [1, 4, 2] and [answer.batch_size for answer in answers] == [4] * 4 + [2] * 2
    batcher.close(20)


def test_pictures_of_other_sizes_are_predicted_apart() -> None:
    policy, batcher = held(max_batch=8, wait_seconds=0.05)
    futures = [batcher.submit(asked(value, size=16 + 8 * (value % 2))) for value in range(4)]
    policy.gate.set()
    assert [future.result(20).actions[0, 0] for future in futures] == [0, 1, 2, 3]
    assert sorted(policy.asked) == [2, 2]
    batcher.close(20)


def test_a_failure_is_its_own_clients_alone() -> None:
    policy, batcher = held(max_batch=4, wait_seconds=0.2)
    futures = [batcher.submit(asked(value, text)) for value, text in enumerate(["x", "fail", "nan", "x"])]
    policy.gate.set()
    assert futures[0].result(20).actions[0, 0] == 0 and futures[3].result(20).actions[0, 0] == 3
    with pytest.raises(PredictionError, match=r"the policy failed \(RuntimeError\)"):
        futures[1].result(20)
    with pytest.raises(PredictionError, match="not finite"):
        futures[2].result(20)
    assert policy.asked == [4, 1, 1, 1, 1]
    batcher.close(20)


def test_a_policy_that_loses_an_answer() -> None:
    batcher = Batcher(lambda inputs: np.zeros((0, 8, 7)))
    with pytest.raises(PredictionError, match="failed"):
        batcher.submit(asked()).result(20)
    batcher.close(20)


def test_a_full_queue_refuses_and_who_left_is_not_predicted() -> None:
    policy, batcher = held(max_queue=2)
    first = batcher.submit(asked())
    while batcher.waiting:
        threading.Event().wait(0.001)
    second, third = batcher.submit(asked(1)), batcher.submit(asked(2))
    with pytest.raises(BusyError, match="busy: 2 observations wait already"):
        batcher.submit(asked(3))
    assert second.cancel()
    policy.gate.set()
    assert first.result(20) and third.result(20).actions[0, 0] == 2 and len(policy.asked) == 2
    batcher.close(20)


def test_closing_finishes_what_waits() -> None:
    policy, batcher = held()
    futures = [batcher.submit(asked(value)) for value in range(5)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    policy.gate.set()
    closing.join(20)
    assert [future.result(0).actions[0, 0] for future in futures] == list(range(5))
    with pytest.raises(StoppingError):
        batcher.submit(asked())


def test_somebody_watches() -> None:
    batcher = Batcher(EchoPolicy().act, watch=lambda inputs: [Verdict(item.images.mean() / 255) for item in inputs])
    verdict = batcher.submit(asked(51)).result(20).verdict
    assert verdict is not None and verdict.score == pytest.approx(0.2) and verdict.alarm is None
    batcher.close(20)
