"""Stop requests by signal: the step that runs is finished and saved before the program ends."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")  # batch systems send the first or the last before time is up
SCHEDULERS = ("SIGTERM", "SIGUSR1")
REQUEUE = 75  # exit code: stopped by a scheduler, saved, go on later; sysexits.h calls it EX_TEMPFAIL
SAME_KEY = 1.0  # seconds; one Ctrl-C reaches a process twice, from the terminal and from torchrun


class StopSignals:
    """Context in which SIGTERM, SIGINT and SIGUSR1 ask for a stop instead of ending the process.

    A second SIGINT, unless it comes within a second of the first, raises KeyboardInterrupt at once. Outside the main
    thread, where Python allows no handlers, the context does nothing.
    """

    def __init__(self) -> None:
        self.received: str | None = None  # name of the first signal
        self._interrupted: float | None = None
        self._pid = os.getpid()
        self._previous: dict[int, object] = {}

    @property
    def stop_requested(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for name in STOP_SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGUSR1
                if number is not None:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a forked worker process inherits the handler, but not the task of stopping
            return
        name = signal.Signals(number).name
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._interrupted is not None and now - self._interrupted > SAME_KEY:
                raise KeyboardInterrupt
            self._interrupted = self._interrupted or now
        if self.received is None:
            hint = "; again to stop at once, without saving" if number == signal.SIGINT else ""
            overwatch.warning(f"{name}: stopping after this step, and saving{hint}")
        self.received = self.received or name


@contextmanager
def leaving_on_signal() -> Iterator[None]:
    """Inside, a scheduler's signal ends the program with `REQUEUE`, by SystemExit, unless `StopSignals` takes it.

    For the time before and after the training: nothing is to be saved then, but the run is to be put back into the
    queue all the same. Outside the main thread, where Python allows no handlers, it does nothing.
    """
    process, previous = os.getpid(), dict[int, object]()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked process inherits the handler; it ends as if there were none
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for taken in previous:
            signal.signal(taken, signal.SIG_IGN)  # once is enough
        overwatch.warning(f"{signal.Signals(number).name}: stopping at once, nothing is to be saved now")
        raise SystemExit(REQUEUE)

    if threading.current_thread() is threading.main_thread():
        for name in SCHEDULERS:
            if hasattr(signal, name):  # Windows has no SIGUSR1
                previous[getattr(signal, name)] = signal.signal(getattr(signal, name), leave)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]
