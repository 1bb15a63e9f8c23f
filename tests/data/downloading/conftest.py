"""A server, and no waiting between attempts."""

from collections.abc import Iterator

import pytest
from files_server import Files, serving

from vla.data.downloading import fetch as fetch_module


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """Runs on this machine, and no proxy is in between."""
    monkeypatch.setattr(fetch_module, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as files:
        yield files
