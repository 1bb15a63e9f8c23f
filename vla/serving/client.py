"""Clients of a policy server: one chunk after the other over HTTP or a WebSocket. `vla.serving.robot` is a loop on top.

Needs numpy, and for a WebSocket the extra `serve`; no torch.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.serving.policy_server.wire import dump_json, dump_msgpack, load_json, load_msgpack

Metadata = dict[str, Any]
Images = Mapping[str, NDArray[Any]]


class ServerError(RuntimeError):
    """
    What a server said instead of an answer.

    Args:
        message: one line.
        status: HTTP's; 0 over a WebSocket.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class BusyError(ServerError):
    """The queue is full, or the server is stopping; trying again may help."""


class RefusedError(ServerError):
    """The observation, the contract or the token is wrong; trying again won't help."""


@dataclass(frozen=True)
class Chunk:
    """
    An answer.

    Attributes:
        actions: [chunk, A], the first for now; see the metadata's `gripper_means` and `contract`.
        queue_ms: that the observation waited.
        infer_ms: that the prediction took.
        anomaly: of what was seen, higher is stranger; None: nobody watches.
        alarm: it is above the watcher's threshold; None: nobody watches, or without a threshold.
    """

    actions: NDArray[np.floating[Any]]
    queue_ms: float
    infer_ms: float
    anomaly: float | None = None
    alarm: bool | None = None


class PolicyClient:
    """
    What both clients can do; see `connect`. One thread at a time may use one.

    Attributes:
        metadata: what the server says about its policy.
    """

    metadata: Metadata

    def infer(
        self, images: Images, instruction: str, proprio: Sequence[float] | NDArray[Any] | None = None, *,
        step: int = 0, seed: int = 0,
    ) -> Chunk:  # fmt: skip
        """
        The chunk of actions that begins now.

        Args:
            images: uint8 [H, W, 3] by camera, or [num_frames, H, W, 3], the newest last, where the policy sees several.
            instruction: what to do.
            proprio: the robot's state, [8], where the policy looks at it.
            step: control steps that the episode has executed, and
            seed: with it decide what a policy draws.

        Raises:
            BusyError: trying again may help.
            RefusedError: the observation is wrong.
            ServerError: the policy failed.
            OSError: there is no connection any more.
        """
        self._number = getattr(self, "_number", 0) + 1
        message: dict[str, Any] = {
            "images": dict(images), "instruction": instruction, "step": step, "seed": seed,
            "request_id": self._number,
        }  # fmt: skip
        if proprio is not None:
            message["proprio"] = np.asarray(proprio, dtype=np.float64)
        found = self._ask(message)
        if found.get("request_id") != self._number:
            raise ServerError(f"request_id: asked {self._number}, the answer is to {found.get('request_id')!r}")
        timing = found["server_timing"]
        verdict = found.get("anomaly"), found.get("alarm")
        return Chunk(np.array(found["actions"]), timing["queue_ms"], timing["infer_ms"], *verdict)

    def close(self) -> None:
        """Hang up."""
        raise NotImplementedError

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    url: str, *, token: str | None = None, contract: Mapping[str, Any] | None = None, timeout: float = 60.0
) -> PolicyClient:
    """
    A client of the server at `url`.

    Args:
        url: `ws://host:port` (less work for both sides) or `http://host:port`; with TLS in front, `wss` or `https`.
        token: what the server asks for.
        contract: any part of what the server's contract should say, such as {"conventions": {"control_hz": 20.0},
            "gripper": "signed"}; compared before anything else.
        timeout: seconds for a connection or an answer.

    Raises:
        UserError: the address is of neither kind, or what it needs is not installed.
        RefusedError: the contract differs, one line says in what; or the token is wrong.
        OSError: nobody answers there.

    Example:
        >>> with connect("ws://127.0.0.1:8000", contract={"gripper": "signed"}) as client:
        ...     client.infer({"agentview": frame}, "pick up the milk").actions.shape
        (8, 7)
    """
    kinds = {"ws": WebSocketPolicyClient, "wss": WebSocketPolicyClient, "http": HTTPPolicyClient}
    kind = (kinds | {"https": HTTPPolicyClient}).get(urlsplit(url).scheme)
    if kind is None:
        raise UserError(f"url: must begin with ws://, wss://, http:// or https://, got {url!r}")
    return kind(url, token=token, contract=contract, timeout=timeout)


class HTTPPolicyClient(PolicyClient):
    """Speaks HTTP, over one connection that is kept and opened anew when the server has closed it; see `connect`."""

    def __init__(
        self, url: str, *, token: str | None = None, contract: Mapping[str, Any] | None = None, timeout: float = 60.0
    ) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.netloc, timeout=timeout)
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self.metadata = self._request("GET", "/contract")
        if contract is not None:
            self._request("POST", "/contract", dict(contract))

    def close(self) -> None:
        """See `PolicyClient`."""
        self._connection.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        return self._request("POST", "/act", message | {"answer": "all"})

    def _request(self, method: str, path: str, message: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if message is None else dump_json(message)
        reused = self._connection.sock is not None
        try:
            status, data = self._exchange(method, path, body)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._connection.close()
            if not reused:
                raise
            status, data = self._exchange(method, path, body)  # it was closed while idle; asking changes nothing there
        if status != 200:
            raise _error(status, data)
        found: dict[str, Any] = load_json(data)
        return found

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        self._connection.request(method, path, body, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()


class WebSocketPolicyClient(PolicyClient):
    """Speaks msgpack over a WebSocket; see `connect`."""

    def __init__(
        self, url: str, *, token: str | None = None, contract: Mapping[str, Any] | None = None, timeout: float = 60.0
    ) -> None:
        try:
            import msgpack  # noqa: F401
            from websockets.exceptions import InvalidStatus
            from websockets.sync.client import connect as open_socket
        except ImportError as error:
            raise UserError(f"{error.name} is in an extra: pip install '.[serve]', or use http://") from error
        headers = {"Authorization": f"Bearer {token}"} if token else None
        try:
            self._opened = open_socket(
                url, compression=None, max_size=None, additional_headers=headers, open_timeout=timeout, proxy=None
            )
            self._socket = self._opened.__enter__()  # some versions connect only now
        except InvalidStatus as error:
            status = error.response.status_code
            text = "token: the server asks for one, or for another" if status in (401, 403) else str(error)
            raise _error(status, json.dumps({"error": text}).encode()) from error
        self._timeout = timeout
        try:
            self.metadata = self._receive()
            if contract is not None:
                self._ask({"contract": dict(contract)})
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """See `PolicyClient`."""
        self._opened.__exit__(None, None, None)

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        try:
            self._socket.send(dump_msgpack(message))
        except ConnectionClosed as error:
            raise ConnectionResetError(f"the server has hung up: {error}") from error
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        try:
            data = self._socket.recv(timeout=self._timeout)
        except ConnectionClosed as error:
            raise ConnectionResetError(f"the server has hung up: {error}") from error
        if isinstance(data, str):
            if data.startswith(("busy:", "the server is stopping")):
                raise BusyError(data)
            raise ServerError(data) if data.startswith("the policy") else RefusedError(data)
        found: dict[str, Any] = load_msgpack(data)
        return found


def _error(status: int, data: bytes) -> ServerError:
    try:
        text = str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        text = data[:200].decode("utf-8", "replace")
    kind = BusyError if status == 503 else RefusedError if 400 <= status < 500 else ServerError
    return kind(text, status)
