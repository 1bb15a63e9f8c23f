"""TFRecord files and the `tf.train.Example` messages in them, read without TensorFlow.

A record is a length (uint64), its masked CRC-32C, the payload and the payload's masked CRC-32C, little endian. An
Example is the protobuf message `{features: {feature: map<string, {bytes_list | float_list | int64_list}>}}`. What is
needed here is where each picture lies in the file, which a general protobuf parser doesn't tell, and copies it instead:
so these few kinds of fields are walked through by hand.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.datasets.optional import import_rlds

_MASK = 0xA282EAD8
_HEADER, _FOOTER = 12, 4  # bytes around a payload
MAX_RECORD = 2**32  # bytes; an episode is far smaller
MAX_VALUES = 50_000_000  # of a feature


class RecordError(ValueError):
    """A record or message is damaged; the message doesn't name the file."""


@dataclass(eq=False)
class Feature:
    """One feature of an Example. `kind`: bytes | float | int."""

    kind: str
    spans: list[tuple[int, int]] = field(default_factory=list)  # of bytes: offset in the payload, and length
    values: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.float32))  # float32 or int64


def masked_crc(crc: Any, data: Any) -> int:
    """The masked CRC-32C of bytes; `crc` is google_crc32c."""
    value = crc.value(bytes(data))
    return (((value >> 15) | (value << 17)) + _MASK) & 0xFFFFFFFF


def records(path: Path) -> Iterator[tuple[int, bytes | RecordError]]:
    """Offset and payload of every record, or what is wrong with it; after a damaged length there are no more.

    Raises:
        OSError: the file can't be read.
    """
    crc = import_rlds("google_crc32c")
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset < size:
            header = file.read(_HEADER)
            if len(header) < _HEADER:
                yield offset, RecordError(f"ends within the record at byte {offset}")
                return
            length, length_crc = struct.unpack("<QI", header)
            if masked_crc(crc, header[:8]) != length_crc:
                yield (
                    offset,
                    RecordError(f"the checksum of a length at byte {offset} is wrong: no TFRecord file, or damaged"),
                )
                return
            if length > MAX_RECORD or offset + _HEADER + length + _FOOTER > size:
                yield offset, RecordError(f"ends within the record at byte {offset}")
                return
            payload, footer = file.read(length), file.read(_FOOTER)
            if len(payload) != length or len(footer) != _FOOTER:
                yield offset, RecordError(f"ends within the record at byte {offset}")
                return
            if masked_crc(crc, payload) != struct.unpack("<I", footer)[0]:
                yield offset, RecordError(f"the checksum of the record at byte {offset} is wrong")
            else:
                yield offset + _HEADER, payload
            offset += _HEADER + length + _FOOTER


def parse_example(payload: bytes, wanted: frozenset[str]) -> dict[str, Feature]:
    """The features of an Example that are `wanted`, by name.

    Raises:
        RecordError: it isn't one.
    """
    found: dict[str, Feature] = {}
    for number, start, end in _fields(payload, 0, len(payload)):
        if number != 1:
            continue
        for inner, first, last in _fields(payload, start, end):
            if inner == 1:
                _entry(payload, first, last, wanted, found)
    return found


def _entry(payload: bytes, start: int, end: int, wanted: frozenset[str], found: dict[str, Feature]) -> None:
    """An entry of the map: field 1 is the name, field 2 the feature."""
    name, place = "", (0, 0)
    for number, first, last in _fields(payload, start, end):
        if number == 1:
            name = payload[first:last].decode("utf-8", "replace")
        elif number == 2:
            place = (first, last)
    if name in wanted:
        found[name] = _feature(payload, *place)


def _feature(payload: bytes, start: int, end: int) -> Feature:
    feature = Feature("bytes")
    for number, first, last in _fields(payload, start, end):
        if number == 1:
            feature = Feature("bytes", [(a, b - a) for n, a, b in _fields(payload, first, last) if n == 1])
        elif number == 2:
            feature = Feature("float", values=_floats(payload, first, last))
        elif number == 3:
            feature = Feature("int", values=_integers(payload, first, last))
    return feature


def _floats(payload: bytes, start: int, end: int) -> NDArray[np.float32]:
    parts = []
    for number, first, last in _fields(payload, start, end):
        if number != 1 or (last - first) % 4:
            raise RecordError("a list of floats is damaged")
        parts.append(np.frombuffer(payload, "<f4", (last - first) // 4, first))
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def _integers(payload: bytes, start: int, end: int) -> NDArray[np.int64]:
    """Packed or single varints; negative ones take ten bytes."""
    found: list[int] = []
    for number, first, last in _fields(payload, start, end, varints=True):
        if number != 1:
            raise RecordError("a list of integers is damaged")
        while first < last:
            value, first = _varint(payload, first, last)
            found.append(value - 2**64 if value >= 2**63 else value)
            if len(found) > MAX_VALUES:
                raise RecordError(f"a list has more than {MAX_VALUES} integers")
    return np.array(found, dtype=np.int64)


def _fields(payload: bytes, start: int, end: int, varints: bool = False) -> Iterator[tuple[int, int, int]]:
    """Number, first and last byte (exclusive) of every field with content; plain numbers only where `varints` asks."""
    while start < end:
        tag, start = _varint(payload, start, end)
        number, kind = tag >> 3, tag & 7
        first = start
        if kind == 2:
            length, first = _varint(payload, start, end)
            start = first + length
        elif kind == 0:
            _, start = _varint(payload, start, end)
        elif kind in (1, 5):
            start += 8 if kind == 1 else 4
        else:
            raise RecordError(f"no message of tf.train.Example (wire type {kind})")
        if start > end:
            raise RecordError("a message ends within a field")
        if kind in (2, 5) or (kind == 0 and varints):
            yield number, first, start


def _varint(payload: bytes, start: int, end: int) -> tuple[int, int]:
    """A number, and where the next one begins."""
    value = shift = 0
    for position in range(start, min(end, start + 10)):
        byte = payload[position]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), position + 1
        shift += 7
    raise RecordError("a number in a message is damaged")
