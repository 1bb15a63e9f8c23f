"""A small HTTP server for tests, which can break transfers, ignore ranges and change its files."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar


@dataclass
class Files:
    """What the server has, and how it behaves; tests change it as they go."""

    content: dict[str, bytes] = field(default_factory=dict)  # by path
    ranges: bool = True  # whether it can send a part of a file
    break_after: list[int] = field(default_factory=list)  # for each of the next answers: bytes before it hangs up
    answers: list[int] = field(default_factory=list)  # for each of the next requests: a status instead of the file
    stated_sha256: dict[str, str] = field(default_factory=dict)  # by path, as the hub says it
    moved: dict[str, str] = field(default_factory=dict)  # path -> where it is now
    validators: bool = True  # whether answers have an ETag
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, range) of every request
    address: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: ClassVar[Files]

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        files, asked = self.files, self.headers.get("Range")
        files.requests.append((self.path, asked))
        if files.answers:
            return self._nothing(files.answers.pop(0))
        if self.path in files.moved:
            stated = (
                {"X-Linked-ETag": f'"{files.stated_sha256[self.path]}"'} if self.path in files.stated_sha256 else {}
            )
            return self._nothing(302, Location=files.moved[self.path], **stated)
        if self.path not in files.content:
            return self._nothing(404)
        self._send(files.content[self.path], asked)

    def _send(self, content: bytes, asked: str | None) -> None:
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        unchanged = self.headers.get("If-Range") in (None, etag)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.files.ranges and unchanged else 0
        if start >= len(content) and start:
            return self._nothing(416, **{"Content-Range": f"bytes */{len(content)}"})
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.files.validators:
            self.send_header("ETag", etag)
        self.end_headers()
        end = start + self.files.break_after.pop(0) if self.files.break_after else len(content)
        self.wfile.write(content[start:end])
        if end < len(content):
            self.close_connection = True

    def _nothing(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(**values: Any) -> Iterator[Files]:
    """A server on this machine while the context lasts."""
    files = Files(**values)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": files}))
    server.daemon_threads = True
    files.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
