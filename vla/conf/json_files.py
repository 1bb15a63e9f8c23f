"""JSON files that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vla.errors import UserError


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: there is no such file, or it can't be read as JSON; one line that names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except ValueError as error:  # no JSON, no UTF-8, a number of more digits than Python takes
        raise UserError(f"{path}: can't be read as JSON ({' '.join(str(error).split())})") from error
    except RecursionError as error:
        raise UserError(f"{path}: can't be read as JSON (nested too deeply)") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: see `read_json`, or the file holds something else.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object, got {type(value).__name__}")
    return value
