"""The entry point of the console script `vla`: finds the command, and imports only that."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import vla
from vla.commands.registry import COMMANDS, available_commands
from vla.conf.help_layout import Layout
from vla.conf.registry import choices_text

COMPLETE = "__complete"  # the hidden command that the completion scripts call
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: words after `vla`; None: those of this process.

    Returns:
        The exit code: 0; 2 after an error of one line; 130 after Ctrl-C; what the command says.
    """
    words = [*sys.argv[1:]] if argv is None else [*argv]
    if not words or words[0] in ("-h", "--help", "help"):
        print_help()
        return 0
    if words[0] == "--version":
        print(f"vla {vla.__version__}")
        return 0
    if words[0] == COMPLETE:
        from vla.commands.candidates import print_candidates

        return print_candidates(words[1:])
    commands = available_commands()
    if words[0] not in commands:
        print(f"error: command: {_problem(words[0], list(commands))}", file=sys.stderr)
        return 2
    try:
        return commands[words[0]].load().run(words[1:], f"vla {words[0]}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `vla list models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def print_help() -> None:
    """All commands, with a line and an example each."""
    layout = Layout()
    lines = ["usage: vla COMMAND [--FIELD VALUE ...]", ""]
    lines += layout.paragraph("Train, resume, evaluate, serve and run vision-language-action models.")
    lines.append("")
    rows = [
        [(" ", ""), (command.name, "chosen"), (command.about, ""), (f"vla {command.example}", "dim")]
        for command in available_commands().values()
    ]
    lines += [*layout.columns(rows, (1, 0, 0)), ""]
    lines += layout.paragraph("vla COMMAND --help shows its flags: the choices first, then what fits them.")
    lines += layout.paragraph("Every flag can stand in a YAML file, too (--config_path FILE).")
    print("\n".join(lines), flush=True)


def _problem(word: str, known: list[str]) -> str:
    missing = next((command for command in COMMANDS if command.name == word and command.name not in known), None)
    if missing is not None and missing.needs.startswith("scripts/"):
        return f"'{word}' needs a checkout of the repository ({missing.needs}), which this installation is not of"
    return choices_text(word, known)
