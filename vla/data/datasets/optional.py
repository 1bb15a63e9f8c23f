"""Packages that only some layouts of data need: imported when they are, or the line that says what to install."""

from importlib import import_module
from typing import Any

from vla.errors import UserError


def import_lerobot(module: str) -> Any:
    """A module of pyarrow or av.

    Raises:
        UserError: it is not installed.
    """
    return _import(module, "LeRobot's layout", "lerobot")


def import_rlds(module: str) -> Any:
    """A module of google_crc32c.

    Raises:
        UserError: it is not installed.
    """
    return _import(module, "TFRecord files", "rlds")


def _import(module: str, what: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f'{package}: {what} can\'t be read without it ({error}): pip install ".[{extra}]"') from None
