"""Uploads through the real client, to a server of this machine that stands for the Hugging Face hub."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vla.errors import UserError
from vla.models.weights.hub import upload_folder

PAGE = "https://huggingface.co/me/soup"


class Hub(BaseHTTPRequestHandler):
    """What the client asks of the hub to make a repository and to commit small files."""

    requests: list[tuple[str, str | None, bytes]]
    refuses: int | None

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(404, {"error": "nothing is here"})

    def do_POST(self) -> None:
        body = self._body()
        type(self).requests.append((self.path, self.headers.get("authorization"), body))
        if type(self).refuses is not None:
            self._answer(type(self).refuses, {"error": "not yours"})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": PAGE})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self._answer(200, {"files": modes})
        else:
            self._answer(200, {"success": True, "commitOid": "1" * 40, "commitUrl": f"{PAGE}/commit/{'1' * 40}"})

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int | None, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status or 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    from huggingface_hub import constants

    Hub.requests, Hub.refuses = [], None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "model").mkdir(parents=True)
    (made / "README.md").write_text("# A model\n")
    (made / "model" / "head.safetensors").write_bytes(bytes(range(256)))
    return made


def test_a_folder_becomes_one_commit(hub: type[Hub], folder: Path) -> None:
    assert upload_folder(folder, "me/soup", private=True, message="Upload it").startswith(f"{PAGE}/commit/")
    made = json.loads(hub.requests[0][2])
    assert (made["organization"], made["name"]) == ("me", "soup")
    assert made.get("visibility", "private" if made.get("private") else "") == "private"
    assert all(token == "Bearer hf_secret" for _, token, _ in hub.requests)
    commits = [body for path, _, body in hub.requests if "/commit/" in path]
    (lines,) = ([json.loads(line) for line in body.splitlines()] for body in commits)
    assert lines[0]["value"]["summary"] == "Upload it"
    files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines[1:]}
    assert files == {"README.md": b"# A model\n", "model/head.safetensors": bytes(range(256))}


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_one_line(hub: type[Hub], folder: Path, status: int) -> None:
    hub.refuses = status
    with pytest.raises(UserError) as error:
        upload_folder(folder, "me/soup")
    assert str(error.value).startswith(f"repo: the hub refuses 'me/soup' (HTTP {status}): check that the token")
    assert "\n" not in str(error.value) and "hf_secret" not in str(error.value)


def test_a_name_that_is_none(hub: type[Hub], folder: Path) -> None:
    with pytest.raises(UserError, match=r"""^repo: must be a name on the hub, "owner/name", got 'a name/with/3'$"""):
        upload_folder(folder, "a name/with/3")


def test_a_hub_that_is_not_there(hub: type[Hub], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(UserError, match="^repo: the hub can't be reached; check the network, or HF_ENDPOINT$"):
        upload_folder(folder, "me/soup")
