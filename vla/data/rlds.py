"""What OpenVLA does to trajectories of RLDS datasets, on NumPy arrays and without TensorFlow.

For data that was prepared for OpenVLA, and for comparing with it. The toolkit's own readers keep the tails of
trajectories and mask them (`vla.data.datasets.libero`). Shapes: T steps, A action dimensions. Grippers are 1 for open
and 0 for closed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OPEN, CLOSED = 0.95, 0.05  # beyond these an absolute command is decided
MOVING = 0.1  # beyond this a relative command moves the gripper


def binarize_gripper(commands: NDArray) -> NDArray:
    """Absolute commands [T] as 0 or 1; one on the way takes the value that the gripper arrives at.

    A trajectory that ends on the way keeps its last value there.
    """
    result = (commands > OPEN).astype(commands.dtype)
    undecided = (commands <= OPEN) & (commands >= CLOSED)
    arrives = commands[-1]
    for step in range(len(commands) - 1, -1, -1):
        arrives = result[step] = arrives if undecided[step] else result[step]
    return result


def invert_gripper(commands: NDArray) -> NDArray:
    """1 for closed into 1 for open, or back."""
    return 1 - commands


def relative_to_absolute_gripper(commands: NDArray) -> NDArray:
    """Relative commands [T] (+1 closes, -1 opens, 0 rests) as the state that they lead to, 1 open or 0 closed.

    Before the first movement the gripper is where that movement does not lead; one that never moves is open.
    """
    moves = np.where(commands < -MOVING, 1, np.where(commands > MOVING, -1, 0))
    moving = np.flatnonzero(moves)
    state = -moves[moving[0]] if len(moving) else 1
    states = np.empty(len(commands), dtype=np.float32)
    for step, move in enumerate(moves):
        state = move or state
        states[step] = state / 2 + 0.5
    return states


class Trajectory(NamedTuple):
    """What OpenVLA reads of a trajectory."""

    actions: NDArray  # [T, A]; the gripper last
    eef_state: NDArray  # [T, 6]; position, axis-angle rotation
    gripper_state: NDArray  # [T, 2]; fingers


def libero_transform(actions: NDArray, state: NDArray) -> Trajectory:
    """LIBERO as OpenVLA reads it.

    Args:
        actions: [T, 7], the gripper -1 open, +1 closed.
        state: [T, 8]; position, axis-angle rotation, fingers.
    """
    gripper = invert_gripper(np.clip(actions[:, -1:], 0, 1))
    return Trajectory(np.concatenate((actions[:, :6], gripper), axis=1), state[:, :6], state[:, -2:])


TRANSFORMS: dict[str, Callable[[NDArray, NDArray], Trajectory]] = {
    f"libero_{suite}_no_noops": libero_transform for suite in ("spatial", "object", "goal", "10")
}


class Chunks(NamedTuple):
    """Windows into a trajectory. N windows, W steps of history with the present, F further actions."""

    actions: NDArray  # [N, W + F, A]
    observations: NDArray  # int64 [N, W], which step is seen
    is_real: NDArray  # bool [N, W], False before the trajectory's start


def chunk_trajectory(
    actions: NDArray, window_size: int, future: int, is_absolute: NDArray, *, drop_tail: bool = False
) -> Chunks:
    """
    A window for each step.

    Args:
        actions: [T, A].
        window_size: steps seen, the present one included; before the start the first is repeated.
        future: actions after the present one. Past the end an absolute dimension stays where it is and another is 0.
        is_absolute: bool [A].
        drop_tail: leave out windows that run over the end, as OpenVLA-OFT does (with it the last `future` steps).
    """
    length = len(actions)
    starts = np.arange(length - future if drop_tail else length)[:, None]
    seen = starts + np.arange(1 - window_size, 1)
    steps = starts + np.arange(1 - window_size, future + 1)
    chunks = actions[np.clip(steps, 0, length - 1)]
    rest = np.where(is_absolute, chunks, 0).astype(actions.dtype)
    return Chunks(np.where((steps >= length)[..., None], rest, chunks), np.maximum(seen, 0), seen >= 0)


def allocate_threads(total: int, weights: Sequence[float]) -> NDArray[np.int64]:
    """
    Threads for each dataset of a mixture: at least one each, the rest by weight.

    Args:
        total: threads, at least as many as datasets.
        weights: of the datasets, > 0.

    Raises:
        ValueError: there are fewer threads than datasets, or a weight is not positive.
    """
    if any(weight <= 0 for weight in weights):
        raise ValueError(f"weights: must be > 0, got {list(weights)}")
    if total < len(weights):
        raise ValueError(f"total: must be at least {len(weights)}, one for each dataset, got {total}")
    shares = np.array(weights, dtype=np.float64) / sum(weights)
    threads = np.zeros(len(shares), dtype=np.int64)
    while (small := (shares * total < 1) & (shares > 0)).any():
        threads += small
        total -= int(small.sum())
        shares[small] = 0
        shares /= max(shares.sum(), np.finfo(float).tiny)
    fractions, whole = np.modf(shares * total)
    threads += whole.astype(np.int64)
    left = total - int(whole.sum())
    threads[np.argsort(fractions)[::-1][:left]] += 1
    return threads
