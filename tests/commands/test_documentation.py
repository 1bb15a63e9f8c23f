"""docs/command_line.md: its commands are valid, and it names all commands."""

import re
import shlex
from pathlib import Path

import pytest

from vla.commands.registry import COMMANDS, available_commands
from vla.conf import cli

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
LINES = sorted(
    {
        match[1].partition(" | ")[0]
        for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
        for match in re.finditer(r"^(?:torchrun .*-m )?vla (\S.*)$", block, re.MULTILINE)
    }
)


def test_there_are_commands() -> None:
    assert len(LINES) > 8 and any(line.startswith("train --config_path") for line in LINES)


def test_every_command_is_named() -> None:
    assert re.findall(r"^\| `vla (\w+)` \|", PAGE, re.MULTILINE) == [command.name for command in COMMANDS]


@pytest.mark.parametrize("line", LINES)
def test_documented_commands_are_valid(line: str, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line)
    if words[0].startswith("-"):
        return
    resolved = available_commands()[words[0]].load().resolve(words[1:])
    assert resolved is not None
    cli.parse(resolved.action.config_class, resolved.action.flags(resolved.words))
