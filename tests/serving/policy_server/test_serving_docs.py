"""docs/serving.md and the script's own text: their commands are valid, and they name every flag's other value."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.serving import ServeConfig

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "scripts" / "serve.py").read_text(encoding="utf-8")
LINES = sorted(set(re.findall(r"^ *python scripts/serve\.py (.*?)(?: +#.*)?$", PAGE + SCRIPT, re.MULTILINE)))


@pytest.mark.parametrize("line", [line for line in LINES if line != "--help"])
def test_commands_are_valid(line: str) -> None:
    cli.parse(ServeConfig, shlex.split(line))


def test_flags_that_are_named_exist() -> None:
    assert len(LINES) >= 5
    known = {item.name for item in fields(ServeConfig)} | {"help", "save"}
    assert set(re.findall(r"--(\w+)", PAGE)) <= known
