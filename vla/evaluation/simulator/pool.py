"""Simulator processes: started, fed with episodes, asked for patience no longer than a time limit, and replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from vla.evaluation.simulator.messages import Alive, Ask, Call, Done, Failed, Job, Outcome, PolicyInput

LIBERO_FACTORY = "vla.evaluation.simulator.worker:make_libero"
TIME_LIMIT = 300.0  # seconds; making an environment and its first reset take 5 on an idle machine
TRIES = 2
HOPELESS = 4  # episodes in a row that end in an error, with none that ever ended otherwise, stop the evaluation

# -> chunks [B, chunk, 7]; an empty one ends its episode
Act = Callable[[list[PolicyInput]], np.ndarray | list[np.ndarray]]


class SimulatorError(RuntimeError):
    """The simulator can't do what it was asked to; one line."""


class _Process:
    """One simulator process and what it is busy with."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path | None) -> None:
        self.job: Job | None = None
        self.attempt = 0
        self.task: tuple[str, int] | None = None
        self.deadline = 0.0
        ours, theirs = Pipe()
        self.connection: Connection = ours
        self._log = log
        self._log_start = log.stat().st_size if log is not None and log.exists() else 0
        output = log.open("ab") if log is not None else subprocess.DEVNULL
        try:
            # In a session of its own, so that Ctrl-C reaches only the process that knows how to stop.
            self.popen = subprocess.Popen(
                [*command[:-1], str(theirs.fileno()), command[-1]], pass_fds=[theirs.fileno()], env=environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        finally:
            theirs.close()
            if not isinstance(output, int):
                output.close()

    def kill(self) -> None:
        self.connection.close()
        self.popen.kill()
        self.popen.wait()

    def last_words(self) -> str:
        """The last line that it printed."""
        if self._log is None:
            return ""
        lines = self._log.read_bytes()[self._log_start :][-2000:].decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return f": {words[-1][:200]}" if words else ""


class SimulatorPool:
    """Plays episodes in processes of their own.

    Args:
        workers: processes.
        factory: `module:function` that makes an environment, see `worker.Factory`.
        python: interpreter that has the simulator; None: this one. It needs no torch.
        time_limit: seconds without a sign of life after which a process is killed and its episode tried once more.
        log: what the n-th process prints goes to this file with `-n` after its stem; None drops it.
        variables: environment variables for the processes, besides this one's.

    Example:
        >>> with SimulatorPool(2) as pool:
        ...     pool.run(jobs, act=policy.act, on_done=print)
    """

    def __init__(
        self, workers: int = 1, *, factory: str = LIBERO_FACTORY, python: Path | None = None,
        time_limit: float = TIME_LIMIT, log: Path | None = None, variables: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if workers < 1:
            raise ValueError(f"workers: must be > 0, got {workers}")
        self._command = [str(python or sys.executable), "-m", "vla.evaluation.simulator.worker", factory]
        # The processes share the cores; a simulator gains nothing from threads of its own.
        installed = (sys.prefix, sys.base_prefix)
        paths = [str(Path(__file__).resolve().parents[3]), *(p for p in sys.path if p and not p.startswith(installed))]
        self._environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            "PYTHONUNBUFFERED": "1", **(variables or {}),
        }  # fmt: skip
        self._time_limit, self._log = time_limit, log
        self._count, self._started = workers, 0
        self._processes: list[_Process] = []
        self._finished = 0
        self._errors_in_a_row = 0
        self.restarts = 0

    def __enter__(self) -> SimulatorPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def process_ids(self) -> list[int]:
        """Of the processes that run now."""
        return [process.popen.pid for process in self._processes]

    def close(self) -> None:
        """End all processes, at work or not."""
        for process in self._processes:
            process.kill()
        self._processes = []

    def call(self, target: str, **arguments: Any) -> Any:
        """Call `module:function` in a simulator process and return what it returns.

        Raises:
            SimulatorError: it raised, died, or took longer than the time limit.
        """
        process = self._processes[0] if self._processes else self._start()
        process.connection.send(Call(target, arguments))
        try:
            if not process.connection.poll(self._time_limit):
                raise SimulatorError(f"{target} took longer than {self._time_limit:g} s")
            answer = process.connection.recv()
        except (EOFError, ConnectionError):
            raise SimulatorError(f"the simulator process died in {target}{process.last_words()}") from None
        except SimulatorError:
            process.kill()
            self._processes.remove(process)
            raise
        if isinstance(answer, Failed):
            raise SimulatorError(answer.message)
        return answer.value

    def run(self, jobs: Sequence[Job], act: Act, on_done: Callable[[Outcome], None]) -> None:
        """Play all jobs; returns when the last one is over.

        The processes that wait for actions at the same time are answered together, by one call of `act`.

        Args:
            jobs: episodes; those of one task are best given one after the other.
            act: the policy.
            on_done: called with every outcome as it comes, in no certain order.

        Raises:
            SimulatorError: the simulator is missing, or nothing but errors comes out of it.
        """
        pending = [(job, 1) for job in jobs]
        waiting: list[tuple[_Process, PolicyInput]] = []
        while len(self._processes) < min(self._count, len(pending)):
            self._start()
        try:
            while pending or any(process.job for process in self._processes):
                self._assign(pending)
                self._receive(pending, waiting, on_done)
                if waiting:
                    self._answer(waiting, act)
        except BaseException:
            self.close()  # half-played episodes would talk into the next run
            raise

    # --- one turn of the loop ---

    def _assign(self, pending: list[tuple[Job, int]]) -> None:
        for process in self._processes:
            if process.job is None and pending:
                index = self._choose(process, [job for job, _ in pending])
                process.job, process.attempt = pending.pop(index)
                process.task = _task(process.job)
                process.deadline = time.monotonic() + self._time_limit
                try:
                    process.connection.send(process.job)
                except (BrokenPipeError, ConnectionError):
                    continue  # its end of file is read in the next turn

    def _choose(self, process: _Process, jobs: list[Job]) -> int:
        """The same task again, since a new environment costs seconds; else the task with the most work per process."""
        tasks = [_task(job) for job in jobs]
        if process.task in tasks:
            return tasks.index(process.task)
        open_jobs = Counter(tasks)
        busy = Counter(other.task for other in self._processes if other.job is not None)
        return max(range(len(jobs)), key=lambda i: (open_jobs[tasks[i]] / (1 + busy[tasks[i]]), -i))

    def _receive(
        self, pending: list[tuple[Job, int]], waiting: list[tuple[_Process, PolicyInput]],
        on_done: Callable[[Outcome], None],
    ) -> None:  # fmt: skip
        asking = {id(process) for process, _ in waiting}
        busy = [process for process in self._processes if process.job is not None and id(process) not in asking]
        patience = max(0.0, min((process.deadline for process in busy), default=0.0) - time.monotonic())
        ready = wait([process.connection for process in busy], timeout=0.0 if waiting else min(patience, 60.0))
        now = time.monotonic()
        for process in busy:
            if process.connection in ready:
                self._hear(process, pending, waiting, on_done)
            elif now > process.deadline:
                self._replace(process, f"gave no sign of life for {self._time_limit:g} s", pending, on_done)

    def _hear(
        self, process: _Process, pending: list[tuple[Job, int]], waiting: list[tuple[_Process, PolicyInput]],
        on_done: Callable[[Outcome], None],
    ) -> None:  # fmt: skip
        assert process.job is not None
        try:
            message = process.connection.recv()
        except (EOFError, ConnectionError):
            process.popen.wait()
            reason = f"died with exit code {process.popen.returncode}{process.last_words()}"
            self._replace(process, reason, pending, on_done)
            return
        process.deadline = time.monotonic() + self._time_limit
        if isinstance(message, Ask):
            waiting.append((process, message.input))
        elif isinstance(message, Done):
            job, process.job = process.job, None
            self._finish(job, process.attempt, message.value, on_done)
        elif isinstance(message, Failed):
            if message.user_error:
                raise SimulatorError(message.message)
            job, process.job = process.job, None
            self._again(job, process.attempt, message.message, pending, on_done)
        else:
            assert isinstance(message, Alive)

    def _answer(self, waiting: list[tuple[_Process, PolicyInput]], act: Act) -> None:
        chunks = act([asked for _, asked in waiting])
        for (process, _), chunk in zip(waiting, chunks, strict=True):
            process.deadline = time.monotonic() + self._time_limit
            try:
                process.connection.send(np.asarray(chunk))
            except (BrokenPipeError, ConnectionError):
                continue  # its end of file is read in the next turn
        waiting.clear()

    # --- processes that fail ---

    def _start(self) -> _Process:
        self._started += 1
        log = self._log and self._log.with_stem(f"{self._log.stem}-{self._started}")
        try:
            process = _Process(self._command, self._environment, log)
        except OSError as error:
            raise SimulatorError(f"simulator_python: {self._command[0]} can't be started: {error.strerror}") from error
        self._processes.append(process)
        return process

    def _replace(
        self, process: _Process, reason: str, pending: list[tuple[Job, int]], on_done: Callable[[Outcome], None]
    ) -> None:
        job, attempt = process.job, process.attempt
        process.kill()
        self._processes.remove(process)
        self._start()
        self.restarts += 1
        assert job is not None
        self._again(job, attempt, f"the simulator process {reason}", pending, on_done)

    def _again(
        self, job: Job, attempt: int, reason: str, pending: list[tuple[Job, int]], on_done: Callable[[Outcome], None]
    ) -> None:
        if attempt < TRIES:
            pending.insert(0, (job, attempt + 1))
            return
        self._finish(job, attempt, Outcome(job.episode, "error", attempts=attempt, message=reason), on_done)

    def _finish(self, job: Job, attempt: int, outcome: Outcome, on_done: Callable[[Outcome], None]) -> None:
        failed = outcome.status == "error"
        self._finished += not failed
        self._errors_in_a_row = self._errors_in_a_row + 1 if failed else 0
        on_done(replace(outcome, attempts=attempt))
        if self._finished == 0 and self._errors_in_a_row >= HOPELESS:
            raise SimulatorError(f"{HOPELESS} episodes, each tried twice, ended in errors; the last: {outcome.message}")


def _task(job: Job) -> tuple[str, int]:
    return job.episode.suite, job.episode.task
