"""HTTP over a real socket: OpenVLA's clients, limits, tokens, sessions, counters."""

import base64
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_policies import EchoPolicy, frame, tiny_policy

from vla.errors import UserError
from vla.evaluation.simulator.messages import Episode, PolicyInput
from vla.serving.client import BusyError, HTTPPolicyClient, RefusedError, ServerError, connect
from vla.serving.policy_server.wire import dump_json, load_json
from vla.serving.robot import Robot

ROOT = Path(__file__).resolve().parents[3]


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Status and content; JSON is read."""
    request = urllib.request.Request(url, body, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, kind, data = response.status, response.headers["content-type"], response.read()
    except urllib.error.HTTPError as error:
        status, kind, data = error.code, error.headers["content-type"], error.read()
    return status, load_json(data) if kind == "application/json" else data.decode()


def act(url: str, **message: Any) -> Any:
    status, content = ask(f"{url}/act", dump_json(message))
    assert status == 200, content
    return content


def test_openvlas_client(start: Any) -> None:
    """One action for an image and an instruction, plain or wrapped, as its deploy script has it."""
    server = start(EchoPolicy(), gripper="unit")
    message = {"image": frame(7), "instruction": "pick", "unnorm_key": None}
    action = act(server.url, **message)
    assert action.shape == (7,) and action.tolist() == [7, 0, 0, 4, 1, 0, 1]
    wrapped = act(server.url, encoded=dump_json(message).decode())
    assert isinstance(wrapped, str) and np.array_equal(load_json(wrapped), action)


def test_oft_s_client_and_other_answers(start: Any) -> None:
    server = start(EchoPolicy())
    chunk = act(server.url, full_image=frame(3), instruction="pick")
    assert isinstance(chunk, list) and len(chunk) == 8 and chunk[5].tolist() == [3, 5, 0, 4, 1, 0, -1]
    message = {"image": frame(3), "instruction": "pick"}
    assert act(server.url, answer="chunk", **message).shape == (8, 7)
    everything = act(server.url, answer="all", request_id="a", step=4, seed=9, **message)
    assert everything["request_id"] == "a" and everything["actions"][0].tolist()[:3] == [3, 4, 9]
    assert ask(f"{server.url}/act", dump_json({"answer": "both", **message}))[0] == 400


def test_an_untrained_model_answers_as_it_does_here(start: Any) -> None:
    policy = tiny_policy()
    server = start(policy)
    images = {name: np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8) for i, name in enumerate("ab")}
    images = dict(zip(policy.processor.config.cameras, images.values(), strict=True))
    state = np.linspace(-1, 1, 8)
    stored = np.stack([image[::-1] for image in images.values()])  # the training files' rows are bottom-up
    here = policy.act([PolicyInput(stored, state, "pick", Episode("served", 0, 0, 0), 0)])[0]
    for url in (server.url, server.url.replace("http", "ws")):
        with connect(url, contract=policy.processor.contract()) as client:
            assert np.array_equal(client.infer(images, "pick", state).actions, here)


def test_a_session_executes_the_chunk(start: Any) -> None:
    """A prediction every `execute_steps` requests; each session has its own, and a reset begins anew."""
    policy = EchoPolicy()
    server = start(policy, execute_steps=3)
    message = {"image": frame(1), "instruction": "pick", "session": "left"}
    assert [act(server.url, **message)[1] for _ in range(7)] == [0, 1, 2, 3, 4, 5, 6]
    assert len(policy.asked) == 3
    assert act(server.url, **{**message, "session": "right"})[1] == 0
    assert [act(server.url, **message)[1], act(server.url, reset=True, **message)[1]] == [7, 0]
    assert act(server.url, **{**message, "instruction": "put"})[1] == 0  # another task is another episode


def test_a_policy_with_a_past(start: Any) -> None:
    policy = tiny_policy(num_frames=2)
    server = start(policy)
    cameras = policy.processor.config.cameras
    message = {"images": {name: frame(5) for name in cameras}, "proprio": np.zeros(8), "instruction": "pick"}
    status, content = ask(f"{server.url}/act", dump_json(message))
    assert status == 400 and "images: must hold 2 frames of each camera" in content["error"]
    first = act(server.url, session="s", **message)
    pair = {**message, "images": {name: np.stack([frame(5)] * 2) for name in cameras}}
    assert np.array_equal(act(server.url, **pair), first)  # there is nothing before the first frame but itself
    with connect(server.url) as client:
        assert Robot(client).act({name: frame(5) for name in cameras}, "pick", np.zeros(8)).shape == (7,)


def test_a_robots_loop(start: Any) -> None:
    policy = EchoPolicy()
    server = start(policy)
    with connect(server.url) as client:
        robot = Robot(client, execute_steps=4)
        actions = [robot.act({"agentview": frame(i)}, "x") for i in range(6)]
        assert len(policy.asked) == 2 and all(action[6] == -1 and action[0] == min(i // 4, 1) for i, action in
                                              enumerate(actions))  # fmt: skip
        robot.reset()
        assert robot.act({"agentview": frame()}, "x")[0] == 0 and len(policy.asked) == 3
        with pytest.raises(UserError, match="execute_steps: must be below the policy's chunk of 8 with an ensemble"):
            Robot(client, ensemble=0.1)
        with pytest.raises(UserError, match=r"execute_steps: must be within \[1, 8\]"):
            Robot(client, execute_steps=9)


def test_errors_have_a_status_and_a_line(start: Any) -> None:
    server = start(EchoPolicy(), max_request_mb=0.01)
    url = f"{server.url}/act"
    image = dump_json({"image": frame(), "instruction": "fail"})
    array = json.dumps({"__numpy__": base64.b64encode(bytes(10)).decode(), "dtype": "O", "shape": [10]}).encode()
    for body, status, words in [
        (b"{", 400, "body: must be JSON"),
        (b"[]", 400, "message: must be an object, got list"),
        (b'{"encoded": 3}', 400, "encoded: must be JSON as a string"),
        (array, 400, "dtype: must be of plain numbers"),
        (image, 500, "the policy failed (RuntimeError)"),
        (bytes(20_000), 413, "body: must be at most 10485 bytes"),
    ]:
        got, content = ask(url, body)
        assert got == status and words in content["error"] and "\n" not in content["error"]
    assert ask(url)[0] == 405 and ask(f"{server.url}/nothing")[0] == 404
    assert ask(f"{server.url}/page/../server.py")[0] == 404
    assert ask(f"{server.url}/contract", b'{"gripper": "unit"}')[0] == 409
    with connect(server.url) as client, pytest.raises(ServerError, match="the policy failed") as failed:
        client.infer({"agentview": frame()}, "fail")
    assert failed.value.status == 500
    with pytest.raises(RefusedError, match="control_hz is 20.0 here, 5 in the client"):
        connect(server.url, contract={"conventions": {"control_hz": 5}})
    with pytest.raises(UserError, match="url: must begin with ws://"):
        connect("127.0.0.1:8000")


def test_a_token(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("secret\n")
    server = start(EchoPolicy(), token_file=path)
    for name in ("contract", "live.json", "metrics"):
        assert ask(f"{server.url}/{name}")[0] == 401
        assert ask(f"{server.url}/{name}", authorization="Bearer other")[0] == 401
        assert ask(f"{server.url}/{name}", authorization="Bearer secret")[0] == 200
        assert ask(f"{server.url}/{name}", authorization="Api-Key secret")[0] == 200  # openpi's client
    assert ask(f"{server.url}/healthz") == (200, {"status": "ok", "waiting": 0})
    for url in (server.url, server.url.replace("http", "ws")):
        with pytest.raises(RefusedError, match="token"):
            connect(url)
        with connect(url, token="secret") as client:
            assert client.infer({"agentview": frame(2)}, "x").actions[0, 0] == 2
    path.write_text("")
    with pytest.raises(UserError, match="token_file: must hold a token"):
        start(EchoPolicy(), token_file=path)
    monkeypatch.setenv("VLA_SERVE_TOKEN", "other")
    assert ask(f"{start(EchoPolicy()).url}/contract")[0] == 401


def test_a_full_queue_is_503(start: Any) -> None:
    policy = EchoPolicy()
    policy.gate.clear()
    server = start(policy, max_queue=1)
    with ThreadPoolExecutor(8) as pool:
        body = dump_json({"image": frame(), "instruction": "x"})
        futures = [pool.submit(ask, f"{server.url}/act", body) for _ in range(8)]
        while sum(future.done() for future in futures) < 6:  # one is predicted, one waits
            threading.Event().wait(0.005)
        policy.gate.set()
        found = [future.result() for future in futures]
    assert sorted(status for status, _ in found) == [200] * 2 + [503] * 6
    assert all(content["error"].startswith("busy: 1 observations wait") for status, content in found if status == 503)
    text = ask(f"{server.url}/metrics")[1]
    assert 'vla_requests_total{outcome="busy",protocol="http"} 6.0' in text
    assert 'vla_requests_total{outcome="answered",protocol="http"} 2.0' in text
    assert "vla_actions_total 16.0" in text and "vla_queue 0.0" in text and "vla_batch_size_sum 2.0" in text


def test_nothing_is_lost_and_no_answer_is_crossed(start: Any) -> None:
    """Eight clients at once, half of them over WebSockets; every answer says what it is an answer to."""
    policy = EchoPolicy()
    server = start(policy, max_batch=4)

    def client(number: int) -> list[bool]:
        url = server.url if number % 2 else server.url.replace("http", "ws")
        with connect(url) as connection:
            found = [
                connection.infer({"agentview": frame(number)}, "x" * (1 + step), step=step, seed=number).actions[0]
                for step in range(12)
            ]
        return [answer[:4].tolist() == [number, step, number, 1 + step] for step, answer in enumerate(found)]

    with ThreadPoolExecutor(8) as pool:
        assert [sum(rows) for rows in pool.map(client, range(8))] == [12] * 8
    assert sum(policy.asked) == 96 and max(policy.asked) > 1


def test_a_connection_that_was_closed_is_opened_again(start: Any) -> None:
    server = start(EchoPolicy())
    with connect(server.url) as client:
        assert isinstance(client, HTTPPolicyClient)
        client._connection.sock.shutdown(2)
        assert client.infer({"agentview": frame(4)}, "x").actions[0, 0] == 4
    with pytest.raises(OSError):
        connect("http://127.0.0.1:9", timeout=5)


def test_a_client_needs_no_torch() -> None:
    program = "import sys, vla.serving.client, vla.serving.robot; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_busy_is_told_from_wrong(start: Any) -> None:
    server = start(EchoPolicy())
    with connect(server.url) as http, connect(server.url.replace("http", "ws")) as socket:
        server.service.stopping = True
        for client in (http, socket):
            with pytest.raises(BusyError, match="stopping"):
                client.infer({"agentview": frame()}, "x")
        assert ask(f"{server.url}/healthz")[0] == 503
