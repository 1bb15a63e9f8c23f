"""`PolicyService`: messages in, answers out, whichever protocol carries them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.conf.serving import ServeConfig
from vla.errors import UserError
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.serving.policy import ActingPolicy, Policy
from vla.serving.policy_server.batching import Answer, Batcher, BusyError, PredictionError, StoppingError, Watch
from vla.serving.policy_server.contract import ContractError, Served
from vla.serving.policy_server.live import Live, Moment
from vla.serving.policy_server.metrics import Metrics
from vla.serving.policy_server.observations import Observed, read_observation
from vla.serving.policy_server.sessions import Session, Sessions
from vla.serving.watching.watcher import Verdict

DEFAULT_EXECUTE_STEPS = 8
_OUTCOMES = {  # first match
    ContractError: "refused", UserError: "refused", BusyError: "busy", StoppingError: "stopping",
    PredictionError: "failed",
}  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """
    The answer to a message.

    Attributes:
        actions: [chunk, A], as the client gets them; a session's [1, A].
        queue_ms, infer_ms: see `Answer`; 0 where a session had the action already.
        verdict: see `Answer`.
    """

    actions: np.ndarray
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    verdict: Verdict | None = None

    def fields(self, message: Any) -> dict[str, Any]:
        """All of it, for the wire; a `request_id` in the message comes back as it was sent."""
        fields: dict[str, Any] = {
            "actions": self.actions, "server_timing": {"queue_ms": self.queue_ms, "infer_ms": self.infer_ms}
        }  # fmt: skip
        if self.verdict is not None:
            fields["anomaly"] = self.verdict.score
            if self.verdict.alarm is not None:
                fields["alarm"] = self.verdict.alarm
        if isinstance(message, dict) and isinstance(message.get("request_id"), str | int):
            fields["request_id"] = message["request_id"]
        return fields


class PolicyService:
    """
    A policy with its queue, sessions, counters and live view.

    Args:
        policy: acts.
        config: how it is served.
        watch: gives a verdict on each observation; None: nobody watches.

    Raises:
        UserError: `execute_steps` is more than the policy's chunk, or the policy can't be asked from here.
    """

    def __init__(self, policy: ActingPolicy, config: ServeConfig, watch: Watch | None = None) -> None:
        if policy.actor != "remote":
            raise UserError(f"policy: {policy.name} can't be served")
        steps, chunk = config.execute_steps, policy.chunk_size
        if steps is not None and steps > chunk:
            raise UserError(f"execute_steps: must be at most the policy's chunk of {chunk}, got {steps}")
        self.config, self.served = config, Served.of(policy, config)
        self.live = Live(self.served)
        self.metrics = Metrics(lambda: self.batcher.waiting)
        max_batch = policy.max_batch if isinstance(policy, Policy) else config.max_batch or 1
        self.batcher = Batcher(
            policy.act, max_batch, config.batch_wait_ms / 1000, config.max_queue, watch, self.metrics.on_batch
        )
        window = self.served.contract["config"]
        execute_steps = steps or min(chunk, DEFAULT_EXECUTE_STEPS)
        self.sessions = Sessions(
            lambda: Session(execute_steps, window["num_frames"], window["frame_stride"]), config.max_connections
        )
        self.stopping = False
        self.in_flight = 0

    async def answer(self, message: Any, protocol: str, client: str) -> Reply:
        """
        Answer an observation.

        Args:
            message: as it came, decoded.
            protocol: http | websocket, for the counters.
            client: a name for people.

        Raises:
            UserError: the message or a contract that it states is wrong.
            BusyError: the queue is full.
            StoppingError: no more is taken.
            PredictionError: the policy failed.
        """
        with self._counted(protocol):
            if self.stopping:
                raise StoppingError("the server is stopping")
            if isinstance(message, dict) and "contract" in message:
                self.served.check(message["contract"])
            observed = await asyncio.to_thread(read_observation, message, self.served)
            reply = await self._reply(observed, client)
            self.metrics.actions.inc(len(reply.actions))
            return reply

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Around everything that a stop has to wait for, until its answer is sent."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def _reply(self, observed: Observed, client: str) -> Reply:
        if observed.session is None:
            if len(observed.frames) != self.served.num_frames:
                raise UserError(
                    f"images: must hold {self.served.num_frames} frames of each camera, the newest last, "
                    f"got {len(observed.frames)}; or name a `session`, which remembers them"
                )
            frames = observed.frames.reshape(-1, *observed.frames.shape[2:])
            answer = await self._predict(observed, frames, observed.step, client)
            return _reply(answer, self.served.actions(answer.actions))
        answers: list[Answer] = []

        async def predict(window: np.ndarray, step: int) -> np.ndarray:
            answers.append(await self._predict(observed, window, step, f"session {observed.session}"))
            return answers[0].actions

        action = await self.sessions.get(observed.session).action(observed, predict)
        actions = self.served.actions(action[None])
        return _reply(answers[0], actions) if answers else Reply(actions)

    async def _predict(self, observed: Observed, frames: np.ndarray, step: int, client: str) -> Answer:
        episode = Episode("served", 0, 0, observed.seed)
        asked = PolicyInput(frames, observed.proprio, observed.instruction, episode, step)
        answer = await asyncio.wrap_future(self.batcher.submit(asked))
        if answer.verdict is not None:
            self.metrics.on_verdict(answer.verdict)
        shown = _reply(answer, self.served.actions(answer.actions))
        times = (shown.queue_ms, shown.infer_ms, shown.verdict)
        self.live.show(Moment(client, frames, observed.instruction, shown.actions, *times))
        return answer

    @contextmanager
    def _counted(self, protocol: str) -> Iterator[None]:
        start, outcome = time.perf_counter(), "failed"
        try:
            yield
            outcome = "answered"
        except (UserError, BusyError, StoppingError, PredictionError) as error:
            outcome = next(name for kind, name in _OUTCOMES.items() if isinstance(error, kind))
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self.metrics.requests.labels(protocol, outcome).inc()
            self.metrics.seconds.labels(protocol).observe(time.perf_counter() - start)


def _reply(answer: Answer, actions: np.ndarray) -> Reply:
    return Reply(actions, 1000 * answer.queue_seconds, 1000 * answer.infer_seconds, answer.verdict)
