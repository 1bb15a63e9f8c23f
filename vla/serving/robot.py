"""A robot's control loop on top of a policy server's client."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.evaluation.simulator.chunks import ChunkExecutor, FrameHistory, check_overlap, environment_action
from vla.serving.client import Chunk, Images, PolicyClient


class Robot:
    """
    A control loop's side of a policy: asks for a chunk when one is due, and gives the action of every step.

    The chunks are executed as in the evaluation: see `vla.evaluation.simulator.chunks`.

    Args:
        client: of a server with `--gripper signed`.
        execute_steps: actions of a chunk before the next is asked for; None: all, at most 8.
        ensemble: averages the chunks that cover a step, the i-th oldest with weight exp(-ensemble * i).

    Raises:
        UserError: the chunk is shorter than `execute_steps`, or, with an ensemble, not longer; or the server sends the
            gripper otherwise.
    """

    def __init__(self, client: PolicyClient, execute_steps: int | None = None, ensemble: float | None = None) -> None:
        told = client.metadata
        chunk = told["chunk_size"]
        if told["gripper"] != "signed":
            raise UserError(f"gripper: must be served as signed, got {told['gripper']!r}")
        if execute_steps is not None and not 0 < execute_steps <= chunk:
            raise UserError(f"execute_steps: must be within [1, {chunk}], the policy's chunk, got {execute_steps}")
        self._client, self._steps, self._ensemble = client, execute_steps or min(chunk, 8), ensemble
        check_overlap(chunk, self._steps, ensemble)
        self.last: Chunk | None = None
        self.reset()

    def reset(self) -> None:
        """A new episode begins."""
        window = self._client.metadata
        self._step = 0
        self._executor = ChunkExecutor(self._steps, self._ensemble)
        self._history = FrameHistory(window["num_frames"], window["frame_stride"])

    def act(self, images: Images, instruction: str, proprio: Sequence[float] | None = None) -> NDArray[np.float64]:
        """
        The command [A] of this step: motion within [-1, 1], the gripper -1 (open) or +1 (close).

        Args:
            images: uint8 [H, W, 3] by camera, all of one size, at every step.
            instruction: what to do.
            proprio: see `PolicyClient.infer`.

        Raises:
            KeyError: a camera is missing.
            ServerError: see `PolicyClient.infer`; the same step may be asked for again.
        """
        cameras, step = self._client.metadata["cameras"], self._step
        self._history.add(step, np.stack([images[name] for name in cameras]))
        if self._executor.wants_chunk(step):
            window = self._history.window(step)
            frames = {name: window[i :: len(cameras)] for i, name in enumerate(cameras)}
            self.last = self._client.infer(frames, instruction, proprio, step=step)
            self._executor.add(step, self.last.actions)
        self._step += 1
        return environment_action(self._executor.action(step))
