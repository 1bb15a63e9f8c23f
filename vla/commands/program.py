"""What a command is made of: an action with one configuration, a menu of actions, or a choice of actions by a flag."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vla.conf import cli
from vla.conf.registry import choices_text


class Resolved(NamedTuple):
    """The action that a command line asks for."""

    action: Action
    words: list[str]  # those of the action: all but the ones that chose it
    chosen: str  # the word of a menu that chose it, or ""


class Program(Protocol):
    """What stands behind a command's name."""

    def run(self, words: Sequence[str], program: str | None = None) -> int:
        """Do what the words ask for; returns the exit code. `program` is the name that help and errors show."""

    def resolve(self, words: Sequence[str]) -> Resolved | None:
        """The action that the words ask for; None: they don't name one yet."""

    def names(self) -> dict[str, str]:
        """Words that may come first, with a line about each; of a program with one action, none."""


@dataclass(frozen=True)
class Action:
    """A function of one configuration.

    Args:
        config_class: the dataclass that the flags fill.
        function: takes it and returns the exit code.
        positional: the field that words in front of all flags fill, or "" where there are none.
        usage: how the usage line shows them, such as "RUN [RUN ...]".
    """

    config_class: type
    function: Callable[[Any], int | None]
    positional: str = ""
    usage: str = ""

    def run(self, words: Sequence[str], program: str | None = None) -> int:
        """Parse the words and call the function; see `Program`."""
        name = f"{program} {self.usage}" if program and self.usage else program
        return cli.run(self.config_class, self.function, self.flags(words), program=name)

    def flags(self, words: Sequence[str]) -> list[str]:
        """The words with a flag in front of those that stand without one."""
        plain = [*words]
        if self.positional and plain and not plain[0].startswith("-"):
            return [f"--{self.positional}", *plain]
        return plain

    def resolve(self, words: Sequence[str]) -> Resolved:
        """Itself; see `Program`."""
        return Resolved(self, [*words], "")

    def names(self) -> dict[str, str]:
        """None; see `Program`."""
        return {}


@dataclass(frozen=True)
class Menu:
    """Actions by the first word.

    Args:
        doc: what its help says; `{program}` in it becomes how the program is called.
        actions: by their word.
    """

    doc: str
    actions: Mapping[str, Action]

    def run(self, words: Sequence[str], program: str | None = None) -> int:
        """Run the action that the first word names; see `Program`."""
        name = program or Path(sys.argv[0]).name
        if not words or words[0] in ("-h", "--help"):
            about = self.doc.strip().replace("{program}", program or f"python scripts/{name}")
            print(f"usage: {name} {{{','.join(self.actions)}}} [--FIELD VALUE ...]\n\n{about}")
            return 0
        found = self.resolve(words)
        if found is None:
            print(f"error: command: {choices_text(words[0], list(self.actions))}", file=sys.stderr)
            return 2
        return found.action.run(found.words, f"{name} {found.chosen}")

    def resolve(self, words: Sequence[str]) -> Resolved | None:
        """The action that the first word names; see `Program`."""
        if not words or words[0] not in self.actions:
            return None
        return Resolved(self.actions[words[0]], [*words[1:]], words[0])

    def names(self) -> dict[str, str]:
        """Its words; see `Program`."""
        from vla.conf.comments import summary

        return {name: summary(action.config_class) for name, action in self.actions.items()}


@dataclass(frozen=True)
class ByFlag:
    """The action of the first of some flags that is on the command line, or else the default one.

    Args:
        actions: by their flag, such as "--suite".
        default: where none of the flags is given.
    """

    actions: Mapping[str, Action]
    default: Action

    def run(self, words: Sequence[str], program: str | None = None) -> int:
        """Run the action that the flags choose; see `Program`."""
        return self.resolve(words).action.run(words, program)

    def resolve(self, words: Sequence[str]) -> Resolved:
        """The action that the flags choose; see `Program`."""
        given = {word.partition("=")[0] for word in words}
        chosen = next((action for flag, action in self.actions.items() if flag in given), self.default)
        return Resolved(chosen, [*words], "")

    def names(self) -> dict[str, str]:
        """The flags that choose, and what they ask for; see `Program`."""
        from vla.conf.comments import summary

        return {flag: summary(action.config_class) for flag, action in self.actions.items()}
