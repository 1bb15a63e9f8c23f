"""`overwatch = initialize_overwatch(__name__)`: log lines of the main process, coloured on a terminal, else plain.

Nothing is configured at import: the rank is read from the launcher's variables when a line is written, and rich is
imported only when a terminal shows it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vla.overwatch.launch import read_launch

if TYPE_CHECKING:
    from rich.console import Console

ROOT = "vla"
LEVEL_VARIABLE = "VLA_LOG_LEVEL"
_FILE_ONLY = "file_only"  # attribute of a log record
_STYLES = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "bold red"}


class Overwatch:
    """A logger with `ctx_level`, the depth of a line under its heading.

    The main process logs from INFO on, all others from ERROR on; VLA_LOG_LEVEL sets the level of the main process.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name if name.partition(".")[0] == ROOT else f"{ROOT}.{name}")

    def debug(self, message: object, ctx_level: int = 0) -> None:
        """Log what only a developer looks for."""
        self._log(logging.DEBUG, message, ctx_level)

    def info(self, message: object, ctx_level: int = 0) -> None:
        """Log what happens."""
        self._log(logging.INFO, message, ctx_level)

    def warning(self, message: object, ctx_level: int = 0) -> None:
        """Log what the user should know about."""
        self._log(logging.WARNING, message, ctx_level)

    def error(self, message: object, ctx_level: int = 0) -> None:
        """Log a failure; the only level that processes other than the main one write."""
        self._log(logging.ERROR, message, ctx_level)

    def to_file(self, message: object) -> None:
        """Keep in the run's file what the console shows in another way."""
        self._log(logging.INFO, message, 0, file_only=True)

    def _log(self, level: int, message: object, ctx_level: int, *, file_only: bool = False) -> None:
        if level >= _lowest_level() and self._logger.isEnabledFor(level):
            self._logger.log(level, "%s%s", "  " * ctx_level, message, extra={_FILE_ONLY: file_only})


def initialize_overwatch(name: str) -> Overwatch:
    """The logger of a module, for its top level.

    Args:
        name: usually `__name__`.
    """
    root = logging.getLogger(ROOT)
    if not any(isinstance(handler, _ConsoleHandler) for handler in root.handlers):
        root.setLevel(logging.DEBUG)  # `Overwatch` decides by rank
        root.addHandler(_ConsoleHandler())
    return Overwatch(name)


@cache
def get_console() -> Console:
    """The rich console (stderr) that log lines go to on a terminal; a progress bar on it stays below them."""
    from rich.console import Console

    return Console(stderr=True)


def log_to_file(path: str | Path) -> logging.Handler | None:
    """Also append the main process's lines, plain and with date, to `path` (a run's `console.log`).

    Returns:
        The handler, for `handler.close()`; None in other processes.
    """
    if read_launch().rank != 0:
        return None
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger(ROOT)
    for handler in [item for item in root.handlers if isinstance(item, _FileHandler)]:
        handler.close()  # a second run in one process writes to its own file only
    handler = _FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    return handler


class _FileHandler(logging.FileHandler):
    def close(self) -> None:
        logging.getLogger(ROOT).removeHandler(self)
        super().close()


class _ConsoleHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, _FILE_ONLY, False):
            return
        try:
            rank = read_launch().rank
            message = f"[rank {rank}] {record.getMessage()}" if rank else record.getMessage()
            clock = time.strftime("%H:%M:%S", time.localtime(record.created))
            if sys.stderr.isatty():
                from rich.text import Text

                style = _STYLES.get(record.levelname, "")
                line = Text.assemble((clock, "dim"), " ", (f"{record.levelname:<7}", style), " ", message)
                get_console().print(line, soft_wrap=True)
            else:
                print(f"{clock} {record.levelname:<7} {message}", file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _lowest_level() -> int:
    if read_launch().rank != 0:
        return logging.ERROR
    level = logging.getLevelName(os.environ.get(LEVEL_VARIABLE, "INFO").upper())
    return level if isinstance(level, int) else logging.INFO
