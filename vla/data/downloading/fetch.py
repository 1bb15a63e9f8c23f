"""Files over HTTP: a transfer that breaks goes on where it broke, also in a later run; checksums are compared."""

import hashlib
import http.client
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import vla
from vla.data.errors import one_line
from vla.errors import UserError
from vla.overwatch import initialize_overwatch

overwatch = initialize_overwatch(__name__)

BLOCK = 2**20
TIMEOUT = 60.0  # seconds without a byte
PAUSE = 1.0  # seconds before the first new attempt; doubled for each further one
_WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')

Progress = Callable[[int, int | None], None]  # bytes so far, of how many


@dataclass(frozen=True)
class Fetched:
    """A file that is whole."""

    size: int  # bytes
    sha256: str
    checked: str  # against what, for people


class _Broken(Exception):  # noqa: N818 - never leaves this module
    """A transfer ended before its time; another attempt may go on."""


@dataclass
class _State:
    """Of a file that is being fetched, beside it, for later runs."""

    path: Path
    validator: str = ""  # ETag or date: whether the rest still belongs to the beginning
    stated_sha256: str = ""  # by the server

    @classmethod
    def read(cls, path: Path) -> "_State":
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, str(values["validator"]), str(values["stated_sha256"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)

    def write(self) -> None:
        values = {"validator": self.validator, "stated_sha256": self.stated_sha256}
        self.path.write_text(json.dumps(values) + "\n", encoding="utf-8")


def fetch(url: str, target: Path, *, md5: str = "", retries: int = 5, progress: Progress | None = None) -> Fetched:
    """Bring a file to `target`, beside which it grows under another name.

    Args:
        url: http or https; redirections are followed.
        target: its folder must exist.
        md5: what the file must have; "" where none is known. A SHA-256 that the server states is compared, too.
        retries: attempts in a row that may bring nothing.
        progress: told now and then how far it is.

    Raises:
        UserError: the server doesn't have it or can't be reached, the disk is too small, or a sum is wrong (then the
            file is removed).
    """
    partial = target.with_name(f".{target.name}.partial")
    state = _State.read(partial.with_suffix(".partial.json"))
    failures, most = 0, _size(partial)
    while True:
        try:
            _transfer(url, partial, state, progress or (lambda done, total: None))
            break
        except _Broken as error:
            failures = 0 if _size(partial) > most else failures + 1
            most = max(most, _size(partial))
            if failures > retries:
                raise UserError(
                    f"{url}: the transfer broke after {_megabytes(_size(partial))} ({error}); the same command goes on "
                    "from there"
                ) from None
            time.sleep(PAUSE * 2 ** max(failures - 1, 0))
        except OSError as error:
            raise UserError(f"{partial}: can't be written: {one_line(error)}") from error
    try:
        fetched = check_file(partial, target.name, md5=md5, sha256=state.stated_sha256)
    except UserError:
        state.path.unlink(missing_ok=True)
        raise
    os.replace(partial, target)
    state.path.unlink(missing_ok=True)
    return fetched


def check_file(path: Path, name: str, *, md5: str = "", sha256: str = "") -> Fetched:
    """Compare a file's sums with what they must be, "" where it isn't known.

    Raises:
        UserError: one is wrong; the file was removed.
    """
    found = _sums(path, ("sha256", "md5") if md5 else ("sha256",))
    for kind, expected in (("md5", md5), ("sha256", sha256)):
        if expected and found[kind] != expected:
            path.unlink()
            raise UserError(
                f"{name}: its {kind} is {found[kind]}, expected {expected}; the file was removed, run the command again"
            )
    kinds = [text for text, sum in (("published md5", md5), ("sha256 stated by the server", sha256)) if sum]
    return Fetched(path.stat().st_size, found["sha256"], " and ".join(kinds) or "size")


def _transfer(url: str, partial: Path, state: _State, progress: Progress) -> None:
    """One attempt: from the end of `partial` to the end of the file, or as far as it gets."""
    start = _size(partial)
    try:
        with _open(url, start, state) as response:
            if response.status == http.client.PARTIAL_CONTENT:
                first, total = _content_range(response.headers)
                if first != start:
                    partial.unlink()
                    raise _Broken(f"the server sent bytes from {first} on, asked for {start}")
            else:
                if start:
                    overwatch.info(f"{url}: the server can't go on from {_megabytes(start)}; it starts again")
                start, total = 0, _content_length(response.headers)
            _remember(response.headers, state)
            _check_room(partial, (total or 0) - start)
            with partial.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                done = _copy(response, file, start, total, progress)
    except HTTPError as error:
        _answer_to(error, url, partial, start)
        return
    except (URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Broken(_reason(error)) from error
    if total is not None and done != total:
        if done > total:
            partial.unlink()
        raise _Broken(f"{done} of {total} bytes came")


def _copy(response: Any, file: Any, done: int, total: int | None, progress: Progress) -> int:
    while True:
        try:
            block = response.read(BLOCK)
        except http.client.IncompleteRead as error:
            file.write(error.partial)
            raise
        except OSError as error:  # of the connection; those of the disk are not caught here
            raise _Broken(_reason(error)) from error
        if not block:
            return done
        file.write(block)
        done += len(block)
        progress(done, total)


def _open(url: str, start: int, state: _State) -> Any:
    headers = {"User-Agent": f"vla/{vla.__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if state.validator:
            headers["If-Range"] = state.validator

    class Redirects(HTTPRedirectHandler):
        """Remembers the SHA-256 that the hub states where it sends one on to the file's storage."""

        def redirect_request(self, request: Any, file: Any, code: Any, text: Any, headers: Any, new: Any) -> Any:
            _remember_stated(headers, state)
            return super().redirect_request(request, file, code, text, headers, new)

    return build_opener(Redirects).open(Request(url, headers=headers), timeout=TIMEOUT)


def _answer_to(error: HTTPError, url: str, partial: Path, start: int) -> None:
    """Return if the answer means that the file is whole already; else raise what to do about it."""
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
        if str(error.headers.get("Content-Range", "")).endswith(f"*/{start}"):
            return
        partial.unlink()
        raise _Broken("the server has fewer bytes than had come") from error
    if error.code in _WORTH_ANOTHER_TRY:
        raise _Broken(f"the server answers {error.code} {error.reason}") from error
    raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error


def _remember(headers: Any, state: _State) -> None:
    etag = headers.get("ETag") or ""
    state.validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified") or ""
    _remember_stated(headers, state)
    state.write()


def _remember_stated(headers: Any, state: _State) -> None:
    match = _SHA256.fullmatch(headers.get("X-Linked-ETag") or "")
    if match:
        state.stated_sha256 = match[1]


def _content_range(headers: Any) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range") or "")
    if match is None:
        raise _Broken("the server doesn't say which bytes it sends")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _content_length(headers: Any) -> int | None:
    text = headers.get("Content-Length") or ""
    return int(text) if text.isdecimal() else None


def _check_room(partial: Path, needed: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        raise UserError(f"root: {partial.parent} has {_megabytes(free)} left, {_megabytes(needed)} are needed")


def _sums(path: Path, kinds: tuple[str, ...]) -> dict[str, str]:
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for digest in digests.values():
                digest.update(block)
    return {kind: digest.hexdigest() for kind, digest in digests.items()}


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return one_line(reason if isinstance(reason, Exception) else error)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
