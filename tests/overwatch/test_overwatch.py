"""Log lines: by rank, by level, plain without a terminal, and into a run's file."""

import io
import logging
import sys
from pathlib import Path

import pytest

from vla.overwatch import get_console, initialize_overwatch, log_to_file


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RANK", "WORLD_SIZE", "VLA_LOG_LEVEL"):
        monkeypatch.delenv(variable, raising=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    overwatch = initialize_overwatch("vla.somewhere")
    overwatch.debug("hidden")
    overwatch.info("loss [/red] 100%")
    overwatch.warning("below", ctx_level=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line[9:] for line in lines] == ["INFO    loss [/red] 100%", "WARNING   below"]


def test_level_by_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    overwatch = initialize_overwatch("vla.somewhere")
    monkeypatch.setenv("VLA_LOG_LEVEL", "debug")
    overwatch.debug("shown")
    monkeypatch.setenv("VLA_LOG_LEVEL", "nonsense")
    overwatch.info("also shown")
    assert [line[9:] for line in capsys.readouterr().err.splitlines()] == ["DEBUG   shown", "INFO    also shown"]


def test_other_processes_only_write_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert log_to_file(tmp_path / "console.log") is None
    overwatch = initialize_overwatch("vla.somewhere")
    overwatch.info("hidden")
    overwatch.error("broken")
    assert capsys.readouterr().err[9:] == "ERROR   [rank 2] broken\n"
    assert not (tmp_path / "console.log").exists()


def test_terminal_shows_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    get_console.cache_clear()
    try:
        initialize_overwatch("vla.somewhere").info("loss [/red] [1, 2]")
    finally:
        get_console.cache_clear()
    assert "loss [/red] [1, 2]" in terminal.getvalue()


def test_file_gets_the_lines_of_its_run_only(tmp_path: Path) -> None:
    overwatch = initialize_overwatch("vla.somewhere")
    log_to_file(tmp_path / "a" / "console.log")
    overwatch.info("first")
    handler = log_to_file(tmp_path / "b" / "console.log")
    overwatch.info("second")
    assert handler is not None
    handler.close()
    overwatch.info("third")
    for folder, message in (("a", "first"), ("b", "second")):
        (line,) = (tmp_path / folder / "console.log").read_text().splitlines()
        assert line.endswith(f"INFO vla.somewhere: {message}")


def test_names_stand_under_vla_and_handlers_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        overwatch = initialize_overwatch("__main__")
    overwatch.info("once")
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert "vla.__main__" in logging.getLogger("vla").manager.loggerDict
