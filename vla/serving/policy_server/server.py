"""`PolicyServer`: a served policy on a port, from its start to the end of what is queued."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
import time
from types import FrameType, TracebackType

import torch

from vla.conf.serving import ServeConfig
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.serving.policy import ActingPolicy, Policy, RandomPolicy, ZeroPolicy
from vla.serving.policy_server.access import TOKEN_VARIABLE, read_token
from vla.serving.policy_server.batching import Watch

try:
    import msgpack  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn
    import websockets  # noqa: F401

    from vla.serving.policy_server.app import make_app
except ImportError as missing:
    raise UserError(f"serving needs {missing.name}, which is in an extra: pip install '.[serve]'") from missing

from vla.serving.policy_server.service import PolicyService

overwatch = initialize_overwatch(__name__)

_CLOSE_SECONDS = 5  # for clients to take their last answer and hang up


class PolicyServer:
    """
    A policy behind a port. Use it as a context manager, which serves in a thread, or call `run`.

    Args:
        policy: acts.
        config: how it is served.
        watch: gives a verdict on each observation; None: nobody watches.

    Raises:
        UserError: the port can't be opened, the token can't be read, or a value doesn't fit the policy.

    Example:
        >>> with PolicyServer(ZeroPolicy(), ServeConfig(policy="zero", port=0)) as server:
        ...     connect(server.url)
    """

    def __init__(self, policy: ActingPolicy, config: ServeConfig, watch: Watch | None = None) -> None:
        token = read_token(config)
        self.config, self.service = config, PolicyService(policy, config, watch)
        self._socket = _open_socket(config)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                make_app(self.service, token), http="h11", ws="websockets-sansio", lifespan="off", log_config=None,
                access_log=False, ws_max_size=self.service.served.max_request_bytes, ws_per_message_deflate=False,
                limit_concurrency=config.max_connections, timeout_graceful_shutdown=_CLOSE_SECONDS,
            ),
            self.service,
        )  # fmt: skip
        self._thread: threading.Thread | None = None
        if token is None and not _is_local(config.host):
            overwatch.warning(
                f"host: anybody who reaches {config.host} may ask; --token_file or {TOKEN_VARIABLE} helps"
            )

    @property
    def url(self) -> str:
        """Where it is, for clients of this machine."""
        host = self.config.host
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def run(self) -> None:
        """Serve until a signal (SIGTERM, Ctrl-C) or `stop` says so, then finish what is queued."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.service.batcher.close(_CLOSE_SECONDS)
            self._socket.close()

    def stop(self) -> None:
        """Take nothing new, and end once what is queued is answered, or after `grace_seconds`."""
        self._server.drain()

    def __enter__(self) -> PolicyServer:
        self._thread = threading.Thread(target=self.run, name="server", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()


class _Server(uvicorn.Server):
    """
    Answers what is queued before it shuts connections down, which alone would cut WebSockets off.

    Args:
        config: uvicorn's.
        service: knows what is still to be answered.
    """

    def __init__(self, config: uvicorn.Config, service: PolicyService) -> None:
        super().__init__(config)
        self._service = service
        self._until: float | None = None

    def drain(self) -> None:
        """Begin to stop."""
        if self._until is None:
            self._until = time.monotonic() + self._service.config.grace_seconds
        self._service.stopping = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal stops in good order and with exit code 0, a second at once."""
        if self._until is not None:
            self.force_exit = self.should_exit = True
        self.drain()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; returns whether to shut down."""
        if self._until is not None and (self._service.in_flight == 0 or time.monotonic() > self._until):
            await asyncio.sleep(0)
            self.should_exit = True
        return await super().on_tick(counter)


def run(config: ServeConfig) -> int:
    """
    The program behind `vla serve` and scripts/serve.py: load, then serve until a signal says stop.

    Returns:
        Exit code 0.

    Raises:
        UserError: there is no complete checkpoint or detector, or see `PolicyServer`.
    """
    device = "cuda" if config.device == "auto" and torch.cuda.is_available() else config.device.replace("auto", "cpu")
    policy = load_policy(config, device)
    server = PolicyServer(policy, config, load_watch(policy, config, device))
    overwatch.info(
        f"serving {policy.name} on {device} at {server.url} (clients: POST /act, WebSocket; page: the address)"
    )
    server.run()
    overwatch.info("stopped")
    return 0


def load_policy(config: ServeConfig, device: str) -> ActingPolicy:
    """The policy that `config` names.

    Raises:
        UserError: there is no complete checkpoint.
    """
    if config.policy == "checkpoint":
        assert config.checkpoint is not None
        return Policy.load(config.checkpoint, device, config.max_batch, config.unnorm_key)
    return ZeroPolicy() if config.policy == "zero" else RandomPolicy()


def load_watch(policy: ActingPolicy, config: ServeConfig, device: str) -> Watch | None:
    """The watcher that `config` names, if any.

    Raises:
        UserError: there is no complete checkpoint of an anomaly detector, or its threshold is of other frames.
    """
    if config.watcher is None:
        return None
    from vla.serving.policy_server.contract import Served
    from vla.serving.watching.watcher import Watcher, newest_frame

    served, watcher = Served.of(policy, config), Watcher.load(config.watcher, device)
    if watcher.threshold is not None:
        watcher.threshold.check_frames(served.cameras[0], None)  # clients send frames of any size
    count, bottom_up = len(served.cameras), served.bottom_up
    return lambda inputs: watcher.look([newest_frame(item.images, count, bottom_up) for item in inputs])


def _open_socket(config: ServeConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family, backlog=512)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"port: {config.port} of {config.host} can't be opened: {reason}; pass another --port"
        ) from error


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
