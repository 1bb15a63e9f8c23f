"""Guards around the simulator's reset, which can hang, drop into a debugger, or disturb the caller's random numbers."""

from __future__ import annotations

import contextlib
import pdb
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np


class SimulatorHangError(RuntimeError):
    """A reset took longer than its time limit or found no valid placement."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise SimulatorHangError after `seconds`; without effect outside the main thread, where signals don't arrive."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def expire(signum: int, frame: Any) -> None:
        raise SimulatorHangError(f"the simulator's reset did not finish within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def no_debugger() -> Iterator[None]:
    """Make pdb.set_trace harmless: LIBERO's sampler calls it before it reports that it found no place."""
    set_trace = pdb.set_trace
    pdb.set_trace = lambda *args, **kwargs: None
    try:
        yield
    finally:
        pdb.set_trace = set_trace


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which LIBERO draws, and give the caller's stream back afterwards."""
    caller = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(caller)
