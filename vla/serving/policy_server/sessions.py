"""Chunks executed here, for clients that ask for one action at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import numpy as np

from vla.evaluation.simulator.chunks import ChunkExecutor, FrameHistory
from vla.serving.policy_server.observations import Observed

Predict = Callable[[np.ndarray, int], Awaitable[np.ndarray]]  # frames [S, H, W, 3] and step -> [chunk, A]


class Session:
    """
    One robot: its chunk, its step, and the frames of its past.

    Args:
        execute_steps: actions of a chunk before the next one is predicted.
        num_frames: that the policy sees.
        frame_stride: control steps between two of them.
    """

    def __init__(self, execute_steps: int, num_frames: int, frame_stride: int) -> None:
        self._execute_steps, self._num_frames, self._stride = execute_steps, num_frames, frame_stride
        self._lock = asyncio.Lock()  # a robot's requests are answered in turn
        self._begin("")

    async def action(self, observed: Observed, predict: Predict) -> np.ndarray:
        """
        The action [A] of the session's next step. A new instruction begins a new episode, as `reset` does.

        Args:
            observed: with the newest frame, or all.
            predict: asked where a new chunk is due; a failure leaves the step to be asked for again.
        """
        async with self._lock:
            if observed.reset or observed.instruction != self._instruction:
                self._begin(observed.instruction)
            step = self._step
            self._history.add(step, observed.frames[-1])
            if self._executor.wants_chunk(step):
                frames = observed.frames.reshape(-1, *observed.frames.shape[2:])
                window = frames if len(observed.frames) == self._num_frames else self._history.window(step)
                self._executor.add(step, await predict(window, step))
            self._step += 1
            return self._executor.action(step)

    def _begin(self, instruction: str) -> None:
        self._instruction, self._step = instruction, 0
        self._executor = ChunkExecutor(self._execute_steps)
        self._history = FrameHistory(self._num_frames, self._stride)


class Sessions:
    """
    Sessions by name; of more than `limit`, the one that was not heard of for longest is forgotten.

    Args:
        make: a new session.
        limit: sessions that are kept.
    """

    def __init__(self, make: Callable[[], Session], limit: int) -> None:
        self._make, self._limit = make, limit
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def get(self, name: str) -> Session:
        """The session of this name, a new one if there is none."""
        session = self._sessions.pop(name, None) or self._make()
        self._sessions[name] = session
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)
        return session

    def __len__(self) -> int:
        return len(self._sessions)
