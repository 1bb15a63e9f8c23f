"""The documented commands of the simulator are valid: evaluating in it, and recording."""

import re
import shlex
from pathlib import Path

import pytest

from vla.conf import cli
from vla.conf.closed_loop import ClosedLoopConfig
from vla.conf.record import RecordConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments").glob("*.yaml"))]
CONFIGS = {"scripts/evaluate.py": ClosedLoopConfig, "scripts/data.py record": RecordConfig}


def commands(program: str) -> list[str]:
    """What follows the program's name, with continued lines put together and comments left out."""
    found = set()
    for page in PAGES:
        text = re.sub(r"\\\n#?\s*", "", page.read_text(encoding="utf-8"))
        found |= {words.partition(" #")[0].strip() for words in re.findall(rf"{program}( --[^`\n]+)", text)}
    return sorted(found)


CASES = [(program, command) for program in CONFIGS for command in commands(program) if "--help" not in command]
CASES = [(program, command) for program, command in CASES if "--suite" in command]  # without: open loop


def test_there_are_commands() -> None:
    assert len([case for case in CASES if case[0] == "scripts/evaluate.py"]) > 4
    assert any("--other_targets" in command for _, command in CASES)


@pytest.mark.parametrize(("program", "command"), CASES)
def test_documented_commands_are_valid(program: str, command: str) -> None:
    cli.parse(CONFIGS[program], shlex.split(command))
