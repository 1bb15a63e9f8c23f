"""Damaged and forged files: how they are made, and what a reader may do about them.

`TARGETS` holds what is read, by name: a function that is given an empty folder, puts into it what belongs to the file
that is read, and returns the `Target`. They stand in `_readers.py`, `_robot_readers.py` and `_weight_readers.py`.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vla.errors import UserError

ACCEPTED, REFUSED = "accepted", "refused"  # what a reader may do
TOKENS = [
    b"null", b"NaN", b"-1", b"9" * 40, b"1e999", b"{}", b"[]", b'""', b"\x00", b"\xff\xfe", b"[" * 3000, b'{"a":' * 500,
    b"!!python/object/apply:os.system ['true']", b"&a [*a]", b"../../../etc/passwd", b"\xed\xa0\x80", b"true",
    b"[" * 200_000, b"{a: " * 2000, b"9" * 5000, b"\xff\xff\xff\x7f", b"\xdf\xff\xff\xff\xff", b"\x91" * 3000,
]  # fmt: skip
HEADER = 2048  # bytes at the front, which are hit more often: most of a large file is data


class Target(NamedTuple):
    """What a reader is given by others."""

    valid: tuple[bytes, ...]  # contents of whole files
    name: str  # of the file to be read, in a folder that holds what belongs to it
    read: Callable[[Path], object]  # gives a value, or raises UserError


Make = Callable[[Path], Target]
TARGETS: dict[str, Make] = {}


def register(name: str) -> Callable[[Make], Make]:
    """Add a function to `TARGETS`."""

    def add(make: Make) -> Make:
        TARGETS[name] = make
        return make

    return add


def to_json(value: Any) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


def mutate(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four random changes of `content`; `other` is a second valid file, to be put together with it."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        size = len(data)
        reach = min(size, HEADER) if chance.random() < 0.7 else size
        place = chance.randrange(reach) if reach else 0
        way = chance.randrange(7)
        if way == 0 and size:
            data[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            data[place : place + chance.randint(0, 8)] = chance.choice(TOKENS)
        elif way == 2:
            del data[place:]
        elif way == 3:
            end = place + chance.randint(1, 64)
            data[place:place] = data[place:end] * chance.randint(1, 20)
        elif way == 4 and size > 8:
            data[place : place + 8] = chance.getrandbits(64).to_bytes(8, "little")
        elif way == 5:
            del data[place : place + chance.randint(1, 64)]
        else:
            cut = chance.randrange(len(other) + 1)
            data[place:] = other[cut : cut + 4096]
    return bytes(data)


def damage(target: Target, chance: random.Random) -> bytes:
    """A valid file of `target` after random changes."""
    return mutate(chance.choice(target.valid), chance.choice(target.valid), chance)


def judge(target: Target, path: Path) -> str:
    """`ACCEPTED`, `REFUSED` by the documented error in one line, or what else came of reading `path`."""
    try:
        target.read(path)
        return ACCEPTED
    except UserError as error:
        return REFUSED if len(str(error).splitlines()) == 1 else f"not one line: {str(error)[:200]!r}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def make_target(name: str, folder: Path) -> Target:
    """The target of that name, with a folder of its own below `folder`, in which its file is to be written.

    Raises:
        UserError: a valid file is refused: the reader, or this file, is wrong.
    """
    root = folder / name.replace(" ", "-").replace("'", "")
    root.mkdir(parents=True)
    target = TARGETS[name](root)
    (root / target.name).write_bytes(target.valid[0])
    try:
        target.read(root / target.name)
    except UserError as error:
        raise UserError(f"{name}: the valid file is refused ({error})") from error
    return target._replace(name=str(root / target.name))
