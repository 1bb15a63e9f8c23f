"""TFRecord files: checksums, messages, the index and its cache."""

import struct
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from robot_files import example, record

from vla.data.datasets.tfrecord import RecordError, parse_example, records


def message_class():
    """`tf.train.Example` by the protobuf package, from its public definition."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")
    kinds = {"BytesList": 12, "FloatList": 2, "Int64List": 3}
    for name, kind in kinds.items():
        file.message_type.add(name=name).field.add(name="value", number=1, label=3, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(kinds, 1):
        field = feature.field.add(name=name.lower(), number=number, label=1, type=11, type_name=f".t.{name}")
        field.oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=9)
    entry.field.add(name="value", number=2, label=1, type=11, type_name=".t.Feature")
    features.field.add(name="feature", number=1, label=3, type=11, type_name=".t.Features.FeatureEntry")
    outer = file.message_type.add(name="Example")
    outer.field.add(name="features", number=1, label=1, type=11, type_name=".t.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = message_class()
LISTS = st.one_of(
    st.lists(st.binary(max_size=200), max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), max_size=40),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
)


@given(st.dictionaries(st.text(max_size=20), LISTS, max_size=6))
def test_messages_of_the_protobuf_package_are_read_alike(content) -> None:
    message = EXAMPLE()
    for name, values in content.items():
        feature = message.features.feature[name]
        kind = "byteslist" if values and isinstance(values[0], bytes) else None
        kind = kind or ("floatlist" if values and isinstance(values[0], float) else "int64list")
        getattr(feature, kind).value.extend(values)
    payload = message.SerializeToString()
    found = parse_example(payload, frozenset(content))
    assert set(found) == set(content)
    for name, values in content.items():
        if values and isinstance(values[0], bytes):
            assert [payload[a : a + n] for a, n in found[name].spans] == values
        else:
            assert found[name].values.tolist() == values


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        parse_example(payload, frozenset(["", "a"]))
    except RecordError as error:
        assert "\n" not in str(error)


def test_the_checksum_is_the_published_one(tmp_path: Path) -> None:
    # CRC-32C of 32 zero bytes is 0x8a9136aa (RFC 3720), masked as TFRecord files have it.
    payload = record(bytes(32))
    crc = 0x8A9136AA
    assert struct.unpack("<I", payload[-4:])[0] == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    (tmp_path / "a").write_bytes(payload * 2)
    assert list(records(tmp_path / "a")) == [(12, bytes(32)), (12 + len(payload), bytes(32))]


@pytest.mark.parametrize(
    ("damage", "words", "left"),
    [
        (lambda data: data[:-3], "ends within the record", 1),
        (lambda data: data[:5], "ends within the record at byte 0", 0),
        (lambda data: b"\xff" + data[1:], "checksum of a length at byte 0 is wrong", 0),
        (lambda data: data[:20] + b"!" + data[21:], "checksum of the record at byte 0 is wrong", 1),
    ],
)
def test_damage_is_found_where_it_is(damage, words: str, left: int, tmp_path: Path) -> None:
    data = record(example({"a": np.arange(5, dtype=np.int64)}))
    (tmp_path / "a").write_bytes(damage(data + data))
    found = [item for _, item in records(tmp_path / "a")]
    bad = [item for item in found if isinstance(item, RecordError)]
    assert len(bad) == 1 and words in str(bad[0]) and len(found) - len(bad) == left
