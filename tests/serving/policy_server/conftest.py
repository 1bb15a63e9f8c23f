"""Servers on 127.0.0.1. Without the extra `serve` there are none, and no tests of them."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from vla.conf.serving import ServeConfig
from vla.serving.policy import ActingPolicy

collect_ignore_glob = [] if find_spec("starlette") else ["test_*.py"]
Start = Callable[..., Any]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers, and stops them after the test."""
    from vla.serving.policy_server.server import PolicyServer

    running: list[PolicyServer] = []

    def make(policy: ActingPolicy, watch: Any = None, **options: Any) -> Any:
        config = ServeConfig(**({"policy": "zero", "port": 0, "grace_seconds": 5.0} | options))
        running.append(PolicyServer(policy, config, watch).__enter__())
        return running[-1]

    yield make
    for server in running:
        server.__exit__(None, None, None)
