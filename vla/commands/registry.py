"""`COMMANDS`: what `vla` can do. Imports nothing of it; a command whose module is not there does not appear."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from vla.commands.program import Program


@dataclass(frozen=True)
class Command:
    """A command of `vla`.

    Args:
        name: the word that calls it.
        about: one line for `vla --help`.
        example: one command line, without `vla`.
        needs: a file beside this package without which there is no such command, or "".
    """

    name: str
    about: str
    example: str
    needs: str = ""

    @property
    def module(self) -> str:
        """Where its `PROGRAM` is."""
        return f"vla.commands.{self.name}"

    @property
    def exists(self) -> bool:
        """Whether this installation has it."""
        beside = Path(__file__).resolve().parents[2] / self.needs
        return find_spec(self.module) is not None and (not self.needs or beside.exists())

    def load(self) -> Program:
        """Import its program."""
        program: Program = import_module(self.module).PROGRAM
        return program


COMMANDS = (
    Command("train", "train a model on a dataset, or show the plan (--dry_run)", "train --model.type vggt-tiny"),
    Command("evaluate", "held-out data, the simulator, questions, benchmarks", "evaluate --checkpoint runs/my-run"),
    Command("serve", "a policy behind a network address", "serve --checkpoint runs/my-run"),
    Command("chat", "talk with a vision-language model about pictures", "chat --model runs/my-run --image a.jpg"),
    Command("data", "record, render, download and examine datasets", "data doctor DIR"),
    Command("convert", "write and take over published layouts", "convert export --checkpoint runs/my-run"),
    Command("report", "compare runs side by side on one page", "report runs/first runs/second"),
    Command("list", "tables of models, datasets and strategies", "list models --search libero"),
    Command("doctor", "what works on this machine, and what to do about the rest", "doctor"),
    Command("bench", "benchmarks, each against a baseline", "bench align-step", needs="scripts/bench.py"),
    Command("completion", "a script that completes commands and flags in bash or zsh", "completion bash"),
)


def available_commands() -> dict[str, Command]:
    """The commands that this installation has, by name."""
    return {command.name: command for command in COMMANDS if command.exists}
