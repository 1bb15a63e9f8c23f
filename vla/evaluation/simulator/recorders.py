"""Processes that record demonstrations: which seed of which task is whose, and what happens when one of them dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait

from vla.evaluation.simulator.libero_env import LiberoEnv
from vla.evaluation.simulator.placing import ExpertError
from vla.evaluation.simulator.recording import RecordingError, TaskRecording

TRIES = 2


@dataclass(frozen=True)
class Step:
    """Work for a process: play a seed of a recording, or, without one, assemble its file."""

    number: int
    seed: int | None


Recorder = Callable[[TaskRecording, int | None], bool]  # plays a seed (did it succeed?), or assembles the file


class LiberoRecorder:
    """A `Recorder` in the simulator; keeps the last task's environment, since making one takes seconds."""

    def __init__(self) -> None:
        self._env: LiberoEnv | None = None

    def __call__(self, recording: TaskRecording, seed: int | None) -> bool:
        """Play a seed, or assemble the file."""
        try:
            env = self._environment(recording)
            if seed is not None:
                return recording.record(env, seed)
            recording.assemble(env)
            return True
        except BaseException:
            self.close()  # it may be broken
            raise

    def close(self) -> None:
        """Free the simulator."""
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def _environment(self, recording: TaskRecording) -> LiberoEnv:
        size = recording.recipe.image_size
        if self._env is None or (self._env.task, self._env.image_size) != (recording.task, size):
            self.close()
            self._env = LiberoEnv(recording.task, size)
        return self._env


class Schedule:
    """Deals out seeds, and the assembly of a task's file once it has all its seeds.

    Which process plays a seed does not matter for the files: `TaskRecording.seeds` decides which are kept.

    Args:
        recordings: tasks; in this order they are begun.
    """

    def __init__(self, recordings: Sequence[TaskRecording]) -> None:
        self.recordings = list(recordings)
        self.given_up: dict[int, RecordingError] = {}
        self._in_flight: dict[int, set[int | None]] = {number: set() for number in range(len(recordings))}

    def next(self, present: int | None = None) -> Step | None:
        """The next step for a process that has the environment of the task number `present`; None: nothing now.

        It goes on with its task's seeds, in their order; when they have run out, it takes one of the task with the
        most open seeds per process, begun or not.
        """
        seeds = {number: self._open(number) for number in self._in_flight}
        whole = [number for number in seeds if self._is_whole(number)]
        if present in whole:
            return self._give(present, None)
        if present is not None and seeds[present]:
            return self._give(present, seeds[present][0])
        busy = Counter(number for number, given in self._in_flight.items() for _ in given)
        waiting = [number for number, open_seeds in seeds.items() if open_seeds]
        if waiting:
            number = max(waiting, key=lambda number: (len(seeds[number]) / (1 + busy[number]), -number))
            return self._give(number, seeds[number][0])
        return self._give(whole[0], None) if whole else None

    def finish(self, step: Step, success: bool) -> None:
        """Take in what became of a step."""
        self._in_flight[step.number].discard(step.seed)
        if step.seed is None:
            self.recordings[step.number].finished = True
        else:
            self.recordings[step.number].results[step.seed] = success

    def give_up(self, step: Step, error: RecordingError) -> None:
        """Record no more of a step's task; the others go on."""
        self._in_flight[step.number].discard(step.seed)
        self.given_up[step.number] = error

    def _give(self, number: int, seed: int | None) -> Step:
        self._in_flight[number].add(seed)
        return Step(number, seed)

    def _open(self, number: int) -> list[int]:
        if self.recordings[number].finished or number in self.given_up:
            return []
        try:
            return self.recordings[number].open_seeds([seed for seed in self._in_flight[number] if seed is not None])
        except RecordingError as error:  # the other tasks go on
            self.given_up[number] = error
            return []

    def _is_whole(self, number: int) -> bool:
        recording = self.recordings[number]
        idle = not recording.finished and number not in self.given_up and not self._in_flight[number]
        return idle and not recording.seeds()[2]


class _Process:
    """A recording process and what it is busy with."""

    def __init__(self, make_recorder: Callable[[], Recorder]) -> None:
        self.step: Step | None = None
        self.present: int | None = None
        context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make_recorder), daemon=True)
        # The child inherits the mask: Ctrl-C is for the process that knows how to stop. The first child would bring up
        # this helper with it, which unblocks SIGINT on its way.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def kill(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def run(
    schedule: Schedule,
    workers: int,
    on_step: Callable[[Step, bool], None] = lambda step, success: None,
    make_recorder: Callable[[], Recorder] = LiberoRecorder,
) -> None:
    """Record all that is open; returns when the last file is written, and leaves no process behind however it ends.

    Args:
        schedule: what to record.
        workers: the most processes; no more are started than there is work for.
        on_step: called after every step with whether it was a success.
        make_recorder: called once in every process; to be found there by its name.

    Raises:
        RecordingError: a step failed, or its process died, twice.
    """
    processes: list[_Process] = []
    again: list[Step] = []
    tries: Counter[Step] = Counter()
    try:
        while True:
            _assign(schedule, processes, again, workers, make_recorder)
            busy = {process.connection: process for process in processes if process.step is not None}
            if not busy:
                return
            for connection in wait(list(busy)):
                process = busy[connection]  # type: ignore[index]
                step, problem, unscripted = process.step, "", False
                assert step is not None
                process.step = None
                try:
                    success, problem, unscripted = process.connection.recv()
                except (EOFError, ConnectionError):
                    process.process.join()
                    success, problem = False, f"the process died with exit code {process.process.exitcode}"
                    process.kill()
                    processes.remove(process)
                if not problem:
                    schedule.finish(step, success)
                    on_step(step, success)
                    continue
                if unscripted:
                    schedule.give_up(step, RecordingError(f"{_name(schedule, step)}: {problem}"))
                    continue
                tries[step] += 1
                if tries[step] == TRIES:
                    raise RecordingError(_describe(schedule, step, problem))
                again.append(step)
    finally:
        for process in processes:
            process.kill()


def _assign(
    schedule: Schedule, processes: list[_Process], again: list[Step], workers: int,
    make_recorder: Callable[[], Recorder],
) -> None:  # fmt: skip
    """Give every idle process a step, and start one as long as there are fewer than `workers`."""
    for _ in range(workers):
        process = next((process for process in processes if process.step is None), None)
        if process is None and len(processes) == workers:
            return
        step = again.pop() if again else schedule.next(process.present if process is not None else None)
        if step is None:
            return
        if process is None:
            process = _Process(make_recorder)
            processes.append(process)
        process.step, process.present = step, step.number
        try:
            process.connection.send((schedule.recordings[step.number], step.seed))
        except (BrokenPipeError, ConnectionError):
            continue  # its end of file is read next


def _describe(schedule: Schedule, step: Step, problem: str) -> str:
    what = "assembling its file" if step.seed is None else f"seed {step.seed}"
    return f"{_name(schedule, step)}, {what}: {problem}, {TRIES} times; what is recorded is kept for the same command"


def _name(schedule: Schedule, step: Step) -> str:
    return schedule.recordings[step.number].task.name


def _serve(connection: Connection, make_recorder: Callable[[], Recorder]) -> None:
    """The program of a recording process: it ends with the process that started it, whatever that one died of."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    recorder = make_recorder()
    while True:
        try:
            recording, seed = connection.recv()
        except EOFError:
            os._exit(0)  # the simulator's own clean-up at interpreter exit only prints errors about OpenGL
        answer: tuple[bool, str, bool]  # success, what went wrong, whether no other seed would help
        try:
            answer = recorder(recording, seed), "", False
        except ExpertError as error:
            answer = False, str(error), True
        except Exception as error:
            answer = False, f"{type(error).__name__}: {' '.join(str(error).split())}", False
        connection.send(answer)
