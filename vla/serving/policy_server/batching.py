"""Observations of many clients, predicted together by one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from vla.evaluation.simulator.messages import PolicyInput
from vla.overwatch import initialize_overwatch
from vla.serving.watching.watcher import Verdict

overwatch = initialize_overwatch(__name__)

Act = Callable[[list[PolicyInput]], np.ndarray]  # -> [B, chunk, A]
Watch = Callable[[list[PolicyInput]], list[Verdict]]


class BusyError(RuntimeError):
    """As many observations wait as may."""


class StoppingError(RuntimeError):
    """The server is about to stop."""


class PredictionError(RuntimeError):
    """The policy could not answer."""


@dataclass(frozen=True)
class Answer:
    """
    What the policy said to one observation.

    Attributes:
        actions: [chunk, A], finite.
        queue_seconds: that it waited.
        infer_seconds: that its batch took.
        batch_size: observations of its batch.
        verdict: on what it showed, if somebody watches.
    """

    actions: np.ndarray
    queue_seconds: float
    infer_seconds: float
    batch_size: int
    verdict: Verdict | None = None


@dataclass
class _Job:
    input: PolicyInput
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """
    A queue in front of a policy, and the thread that empties it.

    Only observations with frames of one size are predicted together. Where a batch fails, each of its observations is
    tried alone, so that no client suffers from another's.

    Args:
        act: predicts; only ever called by the one thread.
        max_batch: observations predicted together.
        wait_seconds: how long the first of a batch waits for others, where `max_batch` allows any.
        max_queue: observations that may wait.
        watch: gives a verdict on each observation; None: nobody watches.
        on_batch: told the size and the seconds of every batch.
    """

    def __init__(
        self, act: Act, max_batch: int = 1, wait_seconds: float = 0.0, max_queue: int = 64, watch: Watch | None = None,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:  # fmt: skip
        self._act, self._watch, self._on_batch = act, watch, on_batch
        self._max_batch, self._wait, self._max_queue = max_batch, wait_seconds if max_batch > 1 else 0.0, max_queue
        self._queue: list[_Job] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
        self._thread.start()

    def submit(self, asked: PolicyInput) -> Future[Answer]:
        """
        Queue an observation; a future that is cancelled before its turn is never predicted.

        Raises:
            BusyError: the queue is full.
            StoppingError: after `close`.
        """
        job = _Job(asked)
        with self._changed:
            if self._closing:
                raise StoppingError("the server is stopping")
            if len(self._queue) >= self._max_queue:
                raise BusyError(f"busy: {self._max_queue} observations wait already, try again")
            self._queue.append(job)
            self._changed.notify()
        return job.future

    @property
    def waiting(self) -> int:
        """Observations in the queue."""
        return len(self._queue)

    def close(self, timeout: float | None = None) -> None:
        """Take no more, finish what is queued, and end the thread, or leave it after `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while jobs := self._next():
            running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            if running:
                self._answer(running)

    def _next(self) -> list[_Job]:
        """The next batch; empty at the end."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            until = time.perf_counter() + self._wait
            while 0 < len(self._queue) < self._max_batch and not self._closing:
                rest = until - time.perf_counter()
                if rest <= 0:
                    break
                self._changed.wait(rest)
            if not self._queue:
                return []
            shape = self._queue[0].input.images.shape
            fitting = [job for job in self._queue if job.input.images.shape == shape][: self._max_batch]
            taken = {id(job) for job in fitting}
            self._queue = [job for job in self._queue if id(job) not in taken]
            return fitting

    def _answer(self, jobs: list[_Job]) -> None:
        start = time.perf_counter()
        inputs = [job.input for job in jobs]
        try:
            chunks = np.asarray(self._act(inputs))
            if len(chunks) != len(jobs):
                raise PredictionError(f"the policy gave {len(chunks)} chunks for {len(jobs)} observations")
            verdicts = [None] * len(jobs) if self._watch is None else self._watch(inputs)
        except Exception as error:  # whatever a model raises is an answer to a client, not the end of the server
            if len(jobs) > 1:
                for job in jobs:
                    self._answer([job])
                return
            overwatch.error(f"prediction failed: {type(error).__name__}: {' '.join(str(error).split())}")
            jobs[0].future.set_exception(PredictionError(f"the policy failed ({type(error).__name__})"))
            return
        seconds = time.perf_counter() - start
        if self._on_batch is not None:
            self._on_batch(len(jobs), seconds)
        for job, chunk, verdict in zip(jobs, chunks, verdicts, strict=True):
            if np.isfinite(chunk).all():
                job.future.set_result(Answer(chunk, start - job.since, seconds, len(jobs), verdict))
            else:
                job.future.set_exception(PredictionError("the policy predicted an action that is not finite"))
