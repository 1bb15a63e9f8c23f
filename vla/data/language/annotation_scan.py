"""Reading an annotation file once, a few megabytes at a time, into `Annotations`; kept beside it for the next run."""

import codecs
import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zipfile import BadZipFile

import numpy as np

from vla.data.errors import one_line
from vla.data.language.annotations import Annotations
from vla.errors import UserError
from vla.overwatch import initialize_overwatch
from vla.prompting import IMAGE_TOKEN, ROLES

overwatch = initialize_overwatch(__name__)

INDEX_VERSION = 1
CHUNK_BYTES = 2**24
LARGE_BYTES = 2**26  # of a file that takes seconds to read; its numbers are kept
_BETWEEN = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_BLANK = re.compile(r"[ \t\r\n]*")
_LONGEST_ATOM = 400  # characters of a number or an escape, with room


def read_annotations(path: Path) -> Annotations:
    """What is to be known of the rows of `path`. Rows that can't be trained on are among them, with their problem.

    Raises:
        UserError: the file isn't a JSON list, or ends inside a row.
    """
    large = path.stat().st_size >= LARGE_BYTES
    places = _index_places(path) if large else []
    for place in places:
        found = _load(place, path)
        if found is not None:
            return found
    if large:
        overwatch.info(f"indexing {path} ({path.stat().st_size / 1e6:.0f} MB), which takes a while the first time")
    annotations = _scan(path)
    for place in places:
        if _save(place, annotations):
            break
    return annotations


def iterate_rows(path: Path) -> Iterator[Any]:
    """The values of the JSON list in `path`, one by one, of which only a few are in memory at a time.

    Raises:
        UserError: the file isn't a JSON list, or ends inside a value.
    """
    return (piece.value for piece in _values(path))


class _Piece(NamedTuple):
    """A value of the list, with its place in the file."""

    value: Any
    start: int  # first byte
    size: int  # bytes
    text: str


class _Window:
    """A part of the file as text: from where reading has come to, some megabytes on."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text = ""
        self.at_end = False

    def read_more(self, done: int) -> None:
        """Forget the first `done` characters, and at least double the rest."""
        data = self._file.read(max(CHUNK_BYTES, len(self.text) - done))
        self.at_end = not data
        try:
            self.text = self.text[done:] + self._decoder.decode(data, final=self.at_end)
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: not UTF-8 text ({error.reason})") from error


def _values(path: Path) -> Iterator[_Piece]:
    """The values of the JSON list in `path`, one by one."""
    with path.open("rb") as file:
        mark = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
        file.seek(0)
        window = _Window(file, path)
        while not window.text.strip() and not window.at_end:
            window.read_more(0)
        start = _BLANK.match(window.text).end()  # type: ignore[union-attr]
        if window.text[start : start + 1] != "[":
            raise UserError(f"{path}: must hold a JSON list of rows")
        yield from _elements(window, start + 1, mark + start + 1)


def _elements(window: _Window, position: int, byte: int) -> Iterator[_Piece]:
    """The list's values from `position` in the window on, which is `byte` in the file."""
    decode = json.JSONDecoder().raw_decode
    number = 0
    while True:
        start = _BETWEEN.match(window.text, position).end()  # type: ignore[union-attr]
        position, byte = start, byte + start - position
        if window.text[position : position + 1] == "]":
            return
        try:
            value, end = decode(window.text, position)
            problem = "the file ends here"
        except RecursionError:
            raise UserError(f"{window.path}[{number}]: nested too deeply") from None
        except ValueError as error:
            value, end, problem = None, len(window.text), one_line(error)
            if window.at_end or _is_hopeless(error, len(window.text)):
                raise UserError(f"{window.path}[{number}]: not JSON, or cut off ({problem})") from None
        if end < len(window.text):  # what ends with the window may go on after it
            text = window.text[position:end]
            yield _Piece(value, byte, num_bytes(text), text)
            position, byte, number = end, byte + num_bytes(text), number + 1
        elif window.at_end:
            raise UserError(f"{window.path}[{number}]: not JSON, or cut off ({problem})")
        else:
            window.read_more(position)
            position = 0


def _is_hopeless(error: Exception, length: int) -> bool:
    """Whether more text than `length` characters would not help: the error is not at the end of what was read."""
    if not isinstance(error, json.JSONDecodeError) or error.msg.startswith("Unterminated"):
        return False
    return error.pos < length - _LONGEST_ATOM


def num_bytes(text: str) -> int:
    """Length of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _scan(path: Path) -> Annotations:
    starts, ends = array("q"), array("q")
    sizes, words, words_besides, turns, keys = array("l"), array("l"), array("l"), array("l"), array("Q")
    image_text, problems = bytearray(), {}
    for number, piece in enumerate(_values(path)):
        problem = problem_of(piece.value)
        if problem is not None:
            problems[number] = problem
        messages = [] if problem else [turn["value"] for turn in piece.value["conversations"]]
        image = "" if problem else piece.value.get("image") or ""
        starts.append(piece.start)
        sizes.append(piece.size)
        count = sum(map(num_words, messages))
        words.append(count)
        marked = [message for message in messages if IMAGE_TOKEN in message]
        words_besides.append(count - sum(map(_words_less, marked)))
        turns.append(len(messages))
        keys.append(_hash(image or piece.text))
        image_text += image.encode()
        ends.append(len(image_text))
    return Annotations(
        path, np.array(starts, np.int64), np.array(sizes, np.int32), np.array(words, np.int32),
        np.array(words_besides, np.int32), np.array(turns, np.int16), np.array(keys, np.uint64),
        np.array(ends, np.int64), np.array(image_text, np.uint8), problems,
    )  # fmt: skip


def num_words(text: str) -> int:
    """`len(text.split())`; of usual text, words between single spaces, in a third of the time."""
    if text.isascii() and text.isprintable() and "  " not in text and text and text == text.strip():
        return text.count(" ") + 1
    return len(text.split())


def _words_less(message: str) -> int:
    """How many words fewer a text has once its image marks are deleted."""
    return num_words(message) - num_words(message.replace(IMAGE_TOKEN, ""))


def problem_of(row: Any) -> str | None:
    """Why a row can't be trained on, whatever the stage; None if nothing is wrong with it."""
    if not isinstance(row, dict):
        return f"must be an object, got {type(row).__name__}"
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) < 2:
        return "'conversations' must be a list of at least two turns"
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            return f"turn {number} must have a text 'value'"
        expected = ROLES[number % 2]
        if turn.get("from") != expected:
            return f"turn {number} must be from {expected!r}, got {turn.get('from')!r}"
    image = row.get("image")
    if image is not None and not (isinstance(image, str) and image and image.isprintable()):
        return f"'image' must be a path, got {image!r}"
    return None


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


# --- kept numbers ---


def _index_places(path: Path) -> list[Path]:
    """Where the numbers of `path` may be kept: beside it, or where that can't be written, in the user's cache."""
    state = path.stat()
    source = f"{INDEX_VERSION} {path.resolve()} {state.st_size} {state.st_mtime_ns}"
    name = f".{path.name}.index-{hashlib.sha256(source.encode()).hexdigest()[:16]}.npz"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla"
    return [path.parent / name, cache / name]


def _load(place: Path, path: Path) -> Annotations | None:
    try:
        with np.load(place, allow_pickle=False) as arrays:
            values: dict[str, Any] = {name: arrays[name] for name in arrays.files}
        problems = {int(row): text for row, text in json.loads(values.pop("problems").tobytes()).items()}
        return Annotations(path, **values, problems=problems)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None  # absent, or half a file: made anew


def _save(place: Path, annotations: Annotations) -> bool:
    """Write beside and rename: several processes may do this at once, and each must find a whole file."""
    values = annotations.__getstate__()
    del values["path"]
    values["problems"] = np.frombuffer(json.dumps(values["problems"]).encode(), np.uint8)
    beside = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez(file, **values)
        beside.replace(place)
    except OSError:
        return False
    return True
