"""The end of a server: what is queued is answered, and the process ends well."""

import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from served_policies import EchoPolicy, frame

from vla.conf.serving import ServeConfig
from vla.errors import UserError
from vla.serving.client import connect
from vla.serving.policy_server.server import PolicyServer, load_policy

ROOT = Path(__file__).resolve().parents[3]


def test_what_is_queued_is_answered(start: Any) -> None:
    policy = EchoPolicy()
    server = start(policy)
    policy.gate.clear()
    ready = threading.Barrier(5)

    def client(number: int) -> float:
        url = server.url if number % 2 else server.url.replace("http", "ws")
        with connect(url) as connection:
            ready.wait(20)
            return float(connection.infer({"agentview": frame(number)}, "x").actions[0, 0])

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(client, number) for number in range(4)]
        ready.wait(20)
        while server.service.batcher.waiting < 3:
            threading.Event().wait(0.002)
        server.stop()
        policy.gate.set()
        assert [future.result(20) for future in futures] == [0, 1, 2, 3]
    with pytest.raises(OSError):
        for _ in range(2000):  # until the port is closed
            connect(server.url).close()


def test_sigterm_ends_the_program_well() -> None:
    words = [sys.executable, "scripts/serve.py", "--policy", "random", "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "serving" in line)
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found is not None
            with connect(found[0].replace("http", "ws")) as client:
                assert client.infer({"agentview": frame()}, "x").actions.shape == (8, 7)
                process.send_signal(signal.SIGTERM)
                assert process.wait(120) == 0
        finally:
            process.kill()


def test_a_port_that_is_taken(start: Any) -> None:
    server = start(EchoPolicy())
    with pytest.raises(UserError, match=rf"port: {server.port} of 127.0.0.1 can't be opened: Address already in use"):
        PolicyServer(EchoPolicy(), ServeConfig(policy="zero", port=server.port))


def test_what_is_loaded(tmp_path: Path) -> None:
    assert load_policy(ServeConfig(policy="zero"), "cpu").name == "zero"
    assert load_policy(ServeConfig(policy="random"), "cpu").name == "random"
    with pytest.raises(UserError, match="checkpoint"):
        load_policy(ServeConfig(checkpoint=tmp_path), "cpu")
