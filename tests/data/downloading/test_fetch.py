"""Transfers that break, go on, start again, or bring the wrong file."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from files_server import Files

from vla.data.downloading import fetch as fetch_module
from vla.data.downloading.fetch import fetch
from vla.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256, MD5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def url(server: Files) -> str:
    server.content["/a/images.zip"] = CONTENT
    return f"{server.address}/a/images.zip"


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(url: str, server: Files, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    found = fetch(url, tmp_path / "x.zip", md5=MD5, progress=lambda done, total: told.append((done, total)))
    assert (tmp_path / "x.zip").read_bytes() == CONTENT and beside(tmp_path) == ["x.zip"]
    assert (found.size, found.sha256, found.checked) == (len(CONTENT), SHA256, "published md5")
    assert told[-1] == (len(CONTENT), len(CONTENT)) and server.requests == [("/a/images.zip", None)]


def test_a_broken_transfer_goes_on(url: str, server: Files, tmp_path: Path) -> None:
    server.break_after = [1_000_000, 500_000]
    assert fetch(url, tmp_path / "x.zip", retries=0).sha256 == SHA256
    assert [asked for _, asked in server.requests] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_run_goes_on(url: str, server: Files, tmp_path: Path) -> None:
    server.break_after = [2_000_000, 0, 0]
    with pytest.raises(
        UserError, match=r"images.zip: the transfer broke after 2.0 MB \(.*goes on from there$"
    ) as raised:
        fetch(url, tmp_path / "x.zip", retries=1)
    assert "\n" not in str(raised.value)
    assert ".x.zip.partial" in beside(tmp_path) and not (tmp_path / "x.zip").exists()
    server.requests.clear()
    assert fetch(url, tmp_path / "x.zip").sha256 == SHA256
    assert server.requests == [("/a/images.zip", "bytes=2000000-")] and beside(tmp_path) == ["x.zip"]


def test_a_server_without_ranges_starts_again(
    url: str, server: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.ranges, server.break_after = False, [1_000_000]
    assert fetch(url, tmp_path / "x.zip").sha256 == SHA256
    assert "the server can't go on from 1.0 MB; it starts again" in capfd.readouterr().err


def test_a_server_without_ranges_that_always_breaks_is_given_up(url: str, server: Files, tmp_path: Path) -> None:
    server.ranges, server.break_after = False, [1000, 900, 1000, 900, 1000]
    with pytest.raises(UserError, match="the transfer broke"):
        fetch(url, tmp_path / "x.zip", retries=2)
    assert len(server.requests) == 4


def test_a_file_that_changed_meanwhile_starts_again(url: str, server: Files, tmp_path: Path) -> None:
    server.break_after = [1_000_000, 0]
    with pytest.raises(UserError):
        fetch(url, tmp_path / "x.zip", retries=0)
    server.content["/a/images.zip"] = CONTENT[::-1]
    fetch(url, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("validators", [True, False])
def test_nothing_is_left_to_fetch(url: str, server: Files, tmp_path: Path, validators: bool) -> None:
    server.validators = validators
    (tmp_path / ".x.zip.partial").write_bytes(CONTENT)
    assert fetch(url, tmp_path / "x.zip").sha256 == SHA256
    (tmp_path / ".x.zip.partial").write_bytes(CONTENT + b"more than there is")
    assert fetch(url, tmp_path / "x.zip").sha256 == SHA256


def test_a_wrong_sum_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        fetch(url, tmp_path / "x.zip", md5="0" * 32)
    assert str(raised.value) == (
        f"x.zip: its md5 is {MD5}, expected {'0' * 32}; the file was removed, run the command again"
    )
    assert not (tmp_path / "x.zip").exists() and ".x.zip.partial" not in beside(tmp_path)


@pytest.mark.parametrize("stated", [SHA256, "0" * 64])
def test_the_hub_states_sums(url: str, server: Files, tmp_path: Path, stated: str) -> None:
    server.moved["/hub/images.zip"], server.stated_sha256["/hub/images.zip"] = "/a/images.zip", stated
    server.break_after = [1_000_000]
    address = f"{server.address}/hub/images.zip"
    if stated == SHA256:
        assert fetch(address, tmp_path / "x.zip").checked == "sha256 stated by the server"
    else:
        with pytest.raises(UserError, match=f"its sha256 is {SHA256}, expected 000000"):
            fetch(address, tmp_path / "x.zip")


def test_a_busy_server_is_asked_again(url: str, server: Files, tmp_path: Path) -> None:
    server.answers = [503, 429]
    assert fetch(url, tmp_path / "x.zip").sha256 == SHA256
    server.answers = [503] * 9
    with pytest.raises(UserError, match=r"the transfer broke after 0.0 MB \(the server answers 503 Service"):
        fetch(url, tmp_path / "y.zip", retries=2)


def test_a_file_that_is_not_there(url: str, server: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/none.zip: the server answers 404 Not Found$"):
        fetch(f"{server.address}/none.zip", tmp_path / "x.zip")
    assert len(server.requests) == 1


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PAUSE", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(
        UserError, match=r"^http://127.0.0.1:9/x: the transfer broke after 0.0 MB \(.*refused"
    ) as raised:
        fetch("http://127.0.0.1:9/x", tmp_path / "x", retries=1)
    assert "\n" not in str(raised.value)


def test_a_full_disk_is_noticed_first(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = fetch_module.shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"^root: .* has 2.0 MB left, 3.0 MB are needed"):
        fetch(url, tmp_path / "x.zip")


def test_a_folder_that_cannot_be_written(url: str, tmp_path: Path) -> None:
    (tmp_path / ".x.zip.partial").mkdir()
    with pytest.raises(UserError, match=r".x.zip.partial: can't be written"):
        fetch(url, tmp_path / "x.zip")
