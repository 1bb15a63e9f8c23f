"""The WebSocket, with nothing but msgpack and websockets on the other side, as openpi's client is made."""

from typing import Any

import msgpack
import numpy as np
import pytest
from served_policies import EchoPolicy, frame
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def pack(value: Any) -> bytes:
    """As openpi's client packs arrays."""

    def tag(array: np.ndarray) -> dict[bytes, Any]:
        return {
            b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape,
        }  # fmt: skip

    packed: bytes = msgpack.packb(value, default=tag)
    return packed


def unpack(data: bytes) -> Any:
    def untag(found: dict) -> Any:
        if b"__ndarray__" not in found:
            return found
        return np.ndarray(buffer=found[b"data"], dtype=np.dtype(found[b"dtype"]), shape=found[b"shape"])

    return msgpack.unpackb(data, object_hook=untag)


OBSERVATION = {
    "observation/image": frame(6), "observation/wrist_image": frame(), "observation/state": np.zeros(8),
    "prompt": "pick",
}  # fmt: skip


@pytest.mark.parametrize("path", ["", "/ws"])
def test_openpis_client(start: Any, path: str) -> None:
    server = start(EchoPolicy())
    with connect(f"ws://127.0.0.1:{server.port}{path}", compression=None, max_size=None) as socket:
        told = unpack(socket.recv(timeout=20))
        assert told["chunk_size"] == 8 and told["contract"]["conventions"]["control_hz"] == 20.0
        for _ in range(2):
            socket.send(pack(OBSERVATION))
            answer = unpack(socket.recv(timeout=20))
            assert answer["actions"].shape == (8, 7) and answer["actions"][3].tolist() == [6, 3, 0, 4, 1, 0, -1]
            assert set(answer["server_timing"]) == {"queue_ms", "infer_ms"}


def test_an_error_is_a_frame_of_text_and_the_connection_goes_on(start: Any) -> None:
    server = start(EchoPolicy())
    with connect(f"ws://127.0.0.1:{server.port}") as socket:
        socket.recv(timeout=20)
        for sent, words in [
            (b"\xc1", "message: must be msgpack"),
            ("text", "message: must be a binary frame of msgpack, got text"),
            (pack({"prompt": "pick"}), "images.agentview: must be given"),
            (pack(OBSERVATION | {"prompt": "fail"}), "the policy failed"),
        ]:
            socket.send(sent)
            assert words in socket.recv(timeout=20)
        socket.send(pack(OBSERVATION))
        assert unpack(socket.recv(timeout=20))["actions"][0, 0] == 6


def test_a_contract_that_differs_ends_it(start: Any) -> None:
    server = start(EchoPolicy())
    with connect(f"ws://127.0.0.1:{server.port}") as socket:
        socket.recv(timeout=20)
        socket.send(pack({"contract": {"gripper": "signed"}}))
        assert unpack(socket.recv(timeout=20)) == {"fits": True}
        socket.send(pack({"contract": {"gripper": "unit"}}))
        assert socket.recv(timeout=20) == "contract: gripper is 'signed' here, 'unit' in the client"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


def test_too_large_a_message_and_a_page_of_somebody_else(start: Any) -> None:
    server = start(EchoPolicy(), max_request_mb=0.01)
    url = f"ws://127.0.0.1:{server.port}"
    with connect(url) as socket:
        socket.recv(timeout=20)
        socket.send(bytes(20_000))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
    with pytest.raises(InvalidStatus):
        with connect(url, origin="http://elsewhere.example"):
            pass
    with connect(url, origin=f"http://127.0.0.1:{server.port}") as socket:
        assert unpack(socket.recv(timeout=20))["policy"] == "zero"


def test_no_more_connections_than_may_be(start: Any) -> None:
    server = start(EchoPolicy(), max_connections=1)
    url = f"ws://127.0.0.1:{server.port}"
    with connect(url) as socket:
        socket.recv(timeout=20)
        with pytest.raises(InvalidStatus):
            with connect(url):
                pass


def test_who_leaves_harms_nobody(start: Any) -> None:
    policy = EchoPolicy()
    server = start(policy)
    policy.gate.clear()
    with connect(f"ws://127.0.0.1:{server.port}") as socket:
        socket.recv(timeout=20)
        socket.send(pack(OBSERVATION))
    policy.gate.set()
    with connect(f"ws://127.0.0.1:{server.port}") as socket:
        socket.recv(timeout=20)
        socket.send(pack(OBSERVATION))
        assert unpack(socket.recv(timeout=20))["actions"][0, 0] == 6
