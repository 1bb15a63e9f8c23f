"""Servers on 127.0.0.1."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")

from vla.conf.serving import ServeConfig
from vla.serving.policy import ActingPolicy
from vla.serving.policy_server.server import PolicyServer

Start = Callable[..., PolicyServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers, and stops them after the test."""
    running = []

    def make(policy: ActingPolicy, score: Any = None, **options: Any) -> PolicyServer:
        config = ServeConfig(**({"policy": "zero", "port": 0, "grace_seconds": 5.0} | options))
        running.append(PolicyServer(policy, config, score).__enter__())
        return running[-1]

    yield make
    for server in running:
        server.__exit__(None, None, None)
