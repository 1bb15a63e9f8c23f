"""From chunks of predicted actions to the action of every step, and the frames of the past that a policy sees."""

from __future__ import annotations

import numpy as np

from vla.errors import UserError


class FrameHistory:
    """Frames of one episode, of which a policy sees the newest and some before it.

    History never reaches behind the episode's first frame: that one is repeated.

    Args:
        num_frames: frames in a window.
        stride: control steps between two of them.
    """

    def __init__(self, num_frames: int, stride: int) -> None:
        self._num_frames, self._stride = num_frames, stride
        self._frames: dict[int, np.ndarray] = {}

    def add(self, step: int, frame: np.ndarray) -> None:
        """Keep what was seen before control step `step`: uint8 [cameras, H, W, 3]."""
        self._frames[step] = frame
        oldest = step - (self._num_frames - 1) * self._stride
        for old in [old for old in self._frames if 0 < old < oldest]:
            del self._frames[old]

    def window(self, step: int) -> np.ndarray:
        """uint8 [num_frames * cameras, H, W, 3], time-major, the frames of `step` last.

        Raises:
            KeyError: a frame of the window was not added.
        """
        steps = [max(step - i * self._stride, 0) for i in reversed(range(self._num_frames))]
        missing = [number for number in steps if number not in self._frames]
        if missing:
            raise KeyError(f"no frame of step {missing[0]}, which the window of step {step} needs")
        return np.concatenate([self._frames[number] for number in steps])


class ChunkExecutor:
    """Decides every step's action from the chunks predicted so far.

    A chunk predicted at step t holds the actions of the steps t, t + 1, ...

    Args:
        execute_steps: steps between two chunks.
        ensemble: None takes the newest chunk; a number m averages the chunks that cover a step, the i-th oldest with
            weight exp(-m * i).

    Raises:
        ValueError: in `add`, a chunk is shorter than `execute_steps`.
    """

    def __init__(self, execute_steps: int, ensemble: float | None = None) -> None:
        self._execute_steps, self._ensemble = execute_steps, ensemble
        self._chunks: list[tuple[int, np.ndarray]] = []  # (step of the first action, [chunk, A]), oldest first

    def wants_chunk(self, step: int) -> bool:
        """Whether the policy is to be asked before control step `step`."""
        return step % self._execute_steps == 0

    def add(self, step: int, chunk: np.ndarray) -> None:
        """Take the chunk [chunk, A] that was predicted at `step`."""
        if len(chunk) < self._execute_steps:
            raise ValueError(f"execute_steps: must be at most the chunk's {len(chunk)}, got {self._execute_steps}")
        covering = [] if self._ensemble is None else [c for c in self._chunks if c[0] + len(c[1]) > step]
        self._chunks = [*covering, (step, np.asarray(chunk, dtype=np.float64))]

    def action(self, step: int) -> np.ndarray:
        """The action [A] of `step`, float64; the gripper not yet a command, see `environment_action`."""
        rows = [chunk[step - first] for first, chunk in self._chunks if step - first < len(chunk)]
        if self._ensemble is None:
            return rows[-1]
        weights = np.exp(-self._ensemble * np.arange(len(rows)))
        return (weights / weights.sum()) @ np.stack(rows)


def check_overlap(chunk: int, execute_steps: int, ensemble: float | None) -> None:
    """Whether there is anything to average.

    Args:
        chunk: actions of a chunk.
        execute_steps: see `ChunkExecutor`.
        ensemble: see `ChunkExecutor`.

    Raises:
        UserError: chunks are to be averaged that never cover the same step.
    """
    if ensemble is not None and execute_steps >= chunk:
        raise UserError(
            f"execute_steps: must be below the policy's chunk of {chunk} with an ensemble, got {execute_steps}: chunks "
            "that are executed whole never overlap"
        )


def environment_action(action: np.ndarray) -> np.ndarray:
    """What the controller is sent: motion within [-1, 1], and the gripper's sign, -1 opens and +1 closes.

    Exactly 0 would hold the gripper where it is; it counts as open, as the training data never holds.

    Raises:
        ValueError: the action holds NaN or infinity.
    """
    if not np.isfinite(action).all():
        raise ValueError(f"the policy predicted an action that is not finite: {action.tolist()}")
    command = np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)
    command[-1] = 1.0 if action[-1] > 0 else -1.0
    return command
