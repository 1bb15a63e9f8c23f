"""Notice that another process of the run is gone, and stop instead of waiting for it.

The processes' collectives can't tell: over NCCL they wait for a dead process until a time-out of half an hour, over
gloo they fail with an address nobody knows. Here every process keeps a connection to the main one. The kernel closes it
when a process ends, however it ends; a machine that loses power stops answering. A leaf: standard library only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable

from vla.overwatch.distributed import DistState, broadcast_object
from vla.overwatch.launch import rendezvous
from vla.overwatch.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

BEAT = 2.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one after which a process counts as gone: its machine may be
GRACE = 10.0  # seconds that the main thread has, to fail by itself, once another process is gone
EXIT_CODE = 1
_LONGEST = 4096  # bytes of a message
_WITHOUT_A_WORD = "it ended without a word (killed, out of memory, or crashed)"


class PeerWatch:
    """Watches the other processes of a run from a thread. A context; does nothing in a run of one process.

    When one is gone, an error that names it is logged, `last_will` is called, and this process ends with exit code 1
    after `GRACE` seconds, unless it has ended by itself.

    Args:
        dist: this process; its process group is there.
        last_will: called in the thread before the process is ended; finishes what must not be cut off.
    """

    def __init__(self, dist: DistState, last_will: Callable[[], None] | None = None) -> None:
        self.last_will = last_will
        self.lost: str | None = None  # which process is gone, and what is known about it
        self._dist = dist
        self._noticed, self._closing = threading.Event(), threading.Event()
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._token = ""
        self._ranks: dict[socket.socket, int] = {}  # -1: has not said yet
        self._received: dict[socket.socket, bytes] = {}
        self._heard: dict[socket.socket, float] = {}
        self._farewell = b"bye\n"
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PeerWatch:
        if self._dist.world_size > 1:
            self._listener = socket.create_server(("", 0)) if self._dist.is_main else None
            mine = (self._listener.getsockname()[1], secrets.token_hex(16)) if self._listener is not None else (0, "")
            port, self._token = broadcast_object(mine, self._dist)
            if self._listener is not None:
                self._selector.register(self._listener, selectors.EVENT_READ)
            else:
                self._connect(port)
            self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leave; other processes are told why, if it is an error."""
        if self._thread is None:
            return
        if error is not None:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self._farewell = f"lost {self._dist.rank} {text}\n".encode()[: _LONGEST - 1].rstrip(b"\n") + b"\n"
        self._closing.set()
        self._thread.join(timeout=BEAT)

    def wait_for_loss(self, seconds: float) -> str | None:
        """Which process is gone, if that is noticed within `seconds`."""
        if self._thread is not None:
            self._noticed.wait(seconds)
        return self.lost

    # ---------------------------------------------------------------- the thread

    def _connect(self, port: int) -> None:
        try:
            link = socket.create_connection((rendezvous()[0], port), timeout=30)
            link.sendall(f"{self._token} {self._dist.rank}\n".encode())
        except OSError as error:
            overwatch.error(f"no connection to the main process ({error}): the end of a process goes unnoticed")
            return
        self._add(link, 0)

    def _add(self, link: socket.socket, rank: int) -> None:
        link.setblocking(False)
        self._ranks[link], self._received[link], self._heard[link] = rank, b"", time.monotonic()
        self._selector.register(link, selectors.EVENT_READ)

    def _watch(self) -> None:
        beaten = 0.0
        while not self._closing.is_set() and self.lost is None:
            for key, _ in self._selector.select(timeout=0.2):
                link = key.fileobj
                assert isinstance(link, socket.socket)
                if link is self._listener:
                    self._add(link.accept()[0], -1)
                else:
                    self._read(link)
            now = time.monotonic()
            if now - beaten > BEAT:
                beaten = now
                self._tell(b".\n")
                for link in list(self._ranks):
                    if now - self._heard[link] > SILENCE:
                        self._gone(link, f"nothing was heard of it for {SILENCE:.0f} seconds")
        self._tell(self._farewell if self.lost is None else f"lost {self.lost}\n".encode())
        for item in [*self._ranks, *([self._listener] if self._listener is not None else [])]:
            item.close()
        if self.lost is not None:
            self._end()

    def _tell(self, message: bytes) -> None:
        for link in self._ranks:
            with contextlib.suppress(OSError):  # reading tells
                link.send(message)

    def _read(self, link: socket.socket) -> None:
        try:
            data = link.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard[link] = time.monotonic()
        *lines, rest = (self._received[link] + data).split(b"\n")
        self._received[link] = rest[:_LONGEST]
        for line in lines:
            if link in self._ranks:
                self._understand(link, line.decode(errors="replace"))
        if not data and link in self._ranks:
            self._gone(link, _WITHOUT_A_WORD)

    def _understand(self, link: socket.socket, line: str) -> None:
        word, _, rest = line.partition(" ")
        if self._ranks[link] < 0:  # a stranger, until it proves that it is not
            if secrets.compare_digest(word, self._token) and rest.isdigit():
                self._ranks[link] = int(rest)
            else:
                self._forget(link)
        elif word == "lost":
            self._notice(rest)
        elif word == "bye":
            self._forget(link)

    def _forget(self, link: socket.socket) -> None:
        self._selector.unregister(link)
        del self._ranks[link]
        link.close()

    def _gone(self, link: socket.socket, reason: str) -> None:
        rank = self._ranks[link]
        self._forget(link)
        if rank >= 0:
            self._notice(f"{rank} {reason}")

    def _notice(self, text: str) -> None:
        if self.lost is None:
            rank, _, reason = text.partition(" ")
            self.lost = f"{rank} {reason}"
            overwatch.error(
                f"process {rank} is gone: {reason}; stopping, since nothing works without it; --resume auto goes on "
                "from the last checkpoint"
            )
            self._noticed.set()

    def _end(self) -> None:
        if self.last_will is not None:
            self.last_will()
        if not self._closing.wait(GRACE):
            os._exit(EXIT_CODE)
