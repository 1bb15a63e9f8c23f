"""A policy server under load: latency of a request and actions per second for 1, 8 and 32 clients at once.

    python scripts/bench.py serving
    python scripts/bench.py serving --checkpoint runs/my-run --max_batch 16 --image_size 128
    python scripts/bench.py serving --protocol http --clients "(1, 4)"

The server runs in a process of its own, the clients in threads of this one, each over its own connection with one
request at a time. Every answer is compared with what the policy itself says to the observation: `lost` counts requests
without an answer, `crossed` answers that are another observation's. `policy alone` is the same policy in this process,
without a server. Latency is from the call to the answer; images are random.
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _policies import tiny_policy

from vla.conf.serving import ServeConfig
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.serving.client import PolicyClient, ServerError, connect
from vla.serving.policy import Policy

ROOT = str(Path(__file__).resolve().parents[2])
DISTINCT = 4  # observations of each client
WARM_UP = 2
TOLERANCE = 1e-4  # batches differ from single predictions by rounding


def run(
    checkpoint: str | None = None, protocol: str = "websocket", clients: tuple[int, ...] = (1, 8, 32),
    requests: int = 128, image_size: int = 128, max_batch: int | None = None, batch_wait_ms: float = 2.0,
) -> dict[str, Any]:  # fmt: skip
    """Measure a checkpoint, or vggt-tiny with a chunk of 8.

    Args:
        checkpoint: a run or checkpoint folder.
        protocol: websocket | http.
        clients: how many at once, a row for each.
        requests: of all clients of a row together.
        image_size: pixels of the frames.
        max_batch: see `ServeConfig`.
        batch_wait_ms: see `ServeConfig`.
    """
    import vla.serving.policy_server.server  # noqa: F401  # says what to install, where that is missing

    policy = load(checkpoint, max_batch)
    observations = make_observations(policy, max(clients) * DISTINCT, image_size)
    expected, seconds = answer_here(policy, observations)
    rows = [row("policy alone", seconds, sum(seconds), policy.chunk_size, {"lost": 0, "crossed": 0})]
    options = {"checkpoint": checkpoint, "max_batch": max_batch, "batch_wait_ms": batch_wait_ms}
    with Server(options) as server:
        url = server.url.replace("http", "ws", 1) if protocol == "websocket" else server.url
        for count in clients:
            load_test = LoadTest(url, observations, expected)
            seconds, wall = load_test.run(count, max(2, requests // count))
            errors = {"lost": load_test.lost, "crossed": load_test.crossed}
            rows.append(row(f"{count} clients", seconds, wall, policy.chunk_size, errors))
    wrong = sum(one["lost"] + one["crossed"] for one in rows)
    return {
        "rows": rows, "baseline": "policy alone", "measure": "actions_per_second", "larger_is_better": True,
        "model": type(policy.config.model).model_id, "chunk": policy.chunk_size, "protocol": protocol,
        "max_batch": policy.max_batch, "image_size": image_size, "lost or crossed": wrong,
    }  # fmt: skip


def row(name: str, seconds: list[float], wall: float, chunk: int, errors: dict[str, int]) -> dict[str, Any]:
    """Latencies in ms, and actions per second of the wall's clock."""
    p50, p95, p99 = (1000 * np.quantile(seconds, [0.5, 0.95, 0.99])).tolist() if seconds else (0.0, 0.0, 0.0)
    figures = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "actions_per_second": chunk * len(seconds) / wall}
    return {"name": name, "answers": len(seconds), **figures, **errors}


class LoadTest:
    """
    Clients in threads.

    Args:
        url: of the server.
        observations: those of client i begin at i * DISTINCT.
        expected: float [N, chunk, A], the answer to each.
    """

    def __init__(self, url: str, observations: list[PolicyInput], expected: np.ndarray) -> None:
        self._url, self._observations, self._expected = url, observations, expected
        self._lock = threading.Lock()
        self.lost = self.crossed = 0
        self._seconds: list[float] = []

    def run(self, clients: int, requests: int) -> tuple[list[float], float]:
        """Seconds of every request, and of all of it, for `clients` that send `requests` each."""
        ready = threading.Barrier(clients + 1)
        threads = [threading.Thread(target=self._client, args=(i, requests, ready)) for i in range(clients)]
        for thread in threads:
            thread.start()
        ready.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        return self._seconds, time.perf_counter() - start

    def _client(self, number: int, requests: int, ready: threading.Barrier) -> None:
        with connect(self._url) as client:
            for _ in range(WARM_UP):
                self._ask(client, number * DISTINCT)
            ready.wait()
            for index in range(requests):
                start = time.perf_counter()
                found = self._ask(client, number * DISTINCT + index % DISTINCT)
                seconds = time.perf_counter() - start
                with self._lock:
                    if found is None:
                        self.lost += 1
                    else:
                        self._seconds.append(seconds)
                        self.crossed += not found

    def _ask(self, client: PolicyClient, number: int) -> bool | None:
        """Whether the answer is the observation's own; None: there is none."""
        asked = self._observations[number]
        cameras = client.metadata["cameras"]
        frames = {name: asked.images[i :: len(cameras)] for i, name in enumerate(cameras)}
        try:
            answer = client.infer(frames, asked.instruction, asked.proprio, seed=asked.episode.seed).actions
        except (ServerError, OSError):
            return None
        differences = np.abs(self._expected - answer).max(axis=(1, 2))
        return bool(differences.argmin() == number and differences[number] < TOLERANCE)


def make_observations(policy: Policy, count: int, size: int) -> list[PolicyInput]:
    """Random ones, each with an instruction and a state of its own."""
    generator = np.random.default_rng(0)
    config = policy.processor.config
    shape = (config.num_frames * len(config.cameras), size, size, 3)
    return [
        PolicyInput(
            generator.integers(0, 255, shape, dtype=np.uint8), generator.uniform(-0.5, 0.5, 8),
            f"pick up object {index % 8}", Episode("served", 0, 0, index), 0,
        )
        for index in range(count)
    ]  # fmt: skip


def answer_here(policy: Policy, observations: list[PolicyInput]) -> tuple[np.ndarray, list[float]]:
    """The answer to each, float [N, chunk, A], and the seconds that each took once instructions are known.

    Raises:
        RuntimeError: two answers are too alike to be told apart.
    """
    expected = np.concatenate([policy.act([asked]) for asked in observations])
    seconds = []
    for asked in observations:
        start = time.perf_counter()
        policy.act([asked])
        seconds.append(time.perf_counter() - start)
    for number, answer in enumerate(expected):
        others = np.delete(expected, number, axis=0)
        if np.abs(others - answer).max(axis=(1, 2)).min() < 2 * TOLERANCE:
            raise RuntimeError(f"the policy answers observation {number} like another one; it can't be told apart")
    return expected, seconds


def load(checkpoint: str | None, max_batch: int | None) -> Policy:
    """The policy that is measured, the same in every process."""
    if checkpoint:
        return Policy.load(Path(checkpoint), max_batch=max_batch)
    tiny = tiny_policy()
    return Policy(tiny.config, tiny.processor, tiny.model, max_batch=max_batch, name="vggt-tiny")


class Server:
    """
    A server in a process of its own.

    Args:
        options: see `serve`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))}
        words = [sys.executable, __file__, json.dumps(options)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the server did not start")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        if self._process.wait(60):
            raise RuntimeError(f"the server ended with exit code {self._process.returncode}")


def serve(checkpoint: str | None, max_batch: int | None, batch_wait_ms: float) -> None:
    """Print the address and serve until SIGTERM."""
    from vla.serving.policy_server.server import PolicyServer

    options: dict[str, Any] = {"max_batch": max_batch, "batch_wait_ms": batch_wait_ms, "images": "stored"}
    config = ServeConfig(policy="zero", port=0, **options)  # the policy is ours
    server = PolicyServer(load(checkpoint, max_batch), config)
    print(server.url, flush=True)
    server.run()


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
