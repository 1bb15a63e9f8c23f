"""Arrays on the wire, as the clients' own libraries write them, and whatever else may come."""

import base64
import json

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.errors import UserError
from vla.serving.policy_server.wire import WireError, dump_json, dump_msgpack, load_json, load_msgpack

ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    np.linspace(-1, 1, 7),
    np.float32([[1.5], [2.5]]),
    np.zeros((0, 7), np.float32),
    np.array(3, np.int16),
    np.arange(6, dtype=">f4").reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array([True, False]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_arrays_come_back(array: np.ndarray) -> None:
    for back in (load_json(dump_json({"a": [array]})), load_msgpack(dump_msgpack({"a": [array]}))):
        assert back["a"][0].shape == array.shape and back["a"][0].dtype.isnative
        assert back["a"][0].dtype.kind == array.dtype.kind and np.array_equal(back["a"][0], array)


def test_what_openvlas_clients_send() -> None:
    """json-numpy writes the elements in base64 beside numpy's name of their type."""
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    sent = {"__numpy__": base64.b64encode(image.tobytes()).decode(), "dtype": "|u1", "shape": [2, 2, 3]}
    assert np.array_equal(load_json(json.dumps({"image": sent}))["image"], image)
    json_numpy = pytest.importorskip("json_numpy")
    assert np.array_equal(load_json(json_numpy.dumps({"image": image}))["image"], image)
    assert np.array_equal(json_numpy.loads(dump_json(image)), image)
    assert json_numpy.loads(dump_json(np.float32(0.5))) == 0.5


def test_what_openpis_client_sends() -> None:
    """Maps with keys of bytes; numbers of numpy's types are tagged, too."""
    state = np.linspace(0, 1, 8)
    sent = {b"__ndarray__": True, b"data": state.tobytes(), b"dtype": "<f8", b"shape": (8,)}
    number = {b"__npgeneric__": True, b"data": 3, b"dtype": "<i8"}
    back = load_msgpack(msgpack.packb({"observation/state": sent, "n": number, "prompt": "do"}))
    assert np.array_equal(back["observation/state"], state) and back["n"] == 3 and back["prompt"] == "do"
    raw = msgpack.unpackb(dump_msgpack({"actions": state, "n": np.float32(0.5)}))
    assert raw["actions"] == {b"__ndarray__": True, b"data": state.tobytes(), b"dtype": "<f8", b"shape": [8]}
    assert raw["n"] == {b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "O"}, "dtype: must be of plain numbers"),
        ({"dtype": "1000000000f4"}, "dtype: must be of plain numbers"),
        ({"dtype": ["f4"]}, "dtype: must be of plain numbers"),
        ({"shape": [2, 2]}, r"shape: \[2, 2\] of <f4 are not 12 bytes"),
        ({"shape": [-1, -3]}, "shape: must be a list"),
        ({"shape": [True, 3]}, "shape: must be a list"),
        ({"shape": [1] * 9}, "shape: must be a list"),
        ({"shape": 3}, "shape: must be a list"),
        ({"__numpy__": "###"}, "must be base64"),
        ({"__numpy__": 3}, "must be base64"),
    ],
)
def test_arrays_that_do_not_fit_themselves(change: dict, words: str) -> None:
    array = {"__numpy__": base64.b64encode(bytes(12)).decode(), "dtype": "<f4", "shape": [3]}
    assert load_json(json.dumps(array)).shape == (3,)
    with pytest.raises(WireError, match=words):
        load_json(json.dumps(array | change))


def test_what_is_no_message() -> None:
    for data in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000):
        with pytest.raises(WireError, match="body: must be JSON"):
            load_json(data)
    for data in (b"", b"\xc1", b"\x81", b"\x91" * 100_000, b"\x81\x01\x01", b"\xdd\xff\xff\xff\xff", b"\x00\x00"):
        with pytest.raises(WireError, match="message: must be msgpack"):
            load_msgpack(data)
    bad = {b"__npgeneric__": True, b"data": "x", b"dtype": "<i8"}
    with pytest.raises(WireError, match="must hold a number"):
        load_msgpack(msgpack.packb(bad))


TAGS = st.sampled_from(["__numpy__", "dtype", "shape", b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
    | st.sampled_from(["<f4", "|u1", "O", "AAAA"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TAGS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_one_line(data: bytes) -> None:
    for load in (load_json, load_msgpack):
        try:
            load(data)
        except UserError as error:
            assert "\n" not in str(error)


@given(VALUES)
def test_any_structure_is_a_message_or_one_line(value: object) -> None:
    with_text_keys = json.dumps(value, default=str, skipkeys=True).encode()
    for load, data in ((load_json, with_text_keys), (load_msgpack, msgpack.packb(value))):
        try:
            load(data)
        except UserError as error:
            assert "\n" not in str(error)
