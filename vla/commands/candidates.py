"""What can come next on a command line of `vla`, for the shells' completion scripts. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from draccus.utils import is_choice_type

from vla.commands.program import Action, Program
from vla.commands.registry import available_commands
from vla.conf import cli, plugins
from vla.conf.errors import UserError
from vla.conf.flags import CONFIG_FLAG, Flags, parse_flags
from vla.conf.help import about, fields, inside, kind, sections
from vla.conf.merging import TYPE, is_open_choice

_ALTERNATIVES = re.compile(r"[\w.+-]+(?: \([^()]*\))?(?: \| [\w.+-]+(?: \([^()]*\))?)+")


class Candidate(NamedTuple):
    """A word that may stand where the cursor is."""

    word: str
    about: str = ""


def print_candidates(words: Sequence[str]) -> int:
    """Print a line `word<TAB>about` for every candidate; nothing where a file name is asked for."""
    for word, text in candidates(words):
        print(f"{word}\t{text}")
    return 0


def candidates(words: Sequence[str]) -> list[Candidate]:
    """What can come next.

    Args:
        words: those after `vla`; the last is the one at the cursor, "" if nothing is typed yet.

    Returns:
        The candidates that begin with what is typed, in the order in which help shows them.
    """
    words = _join_equals([*words] or [""])
    commands = available_commands()
    if len(words) == 1:
        return _beginning(words[-1], [Candidate(name, command.about) for name, command in commands.items()])
    if words[0] not in commands:
        return []
    program = commands[words[0]].load()
    return _beginning(words[-1], list(_of_program(program, words[1:])))


def _join_equals(words: list[str]) -> list[str]:
    """bash cuts `--stage=al` into `--stage`, `=` and `al`: the same as `--stage al`."""
    if words[-1] == "=":
        words = [*words, ""]
    return [word for word in words[:-1] if word != "="] + words[-1:]


def _beginning(typed: str, found: list[Candidate]) -> list[Candidate]:
    """Those that begin with what is typed; of `--field=...`, what follows the equals sign counts."""
    flag, equals, value = typed.partition("=")
    if equals and flag.startswith("--"):
        return [Candidate(f"{flag}={word}", text) for word, text in found if word.startswith(value)]
    return [item for item in found if item.word.startswith(typed)]


def _of_program(program: Program, words: list[str]) -> Iterator[Candidate]:
    if len(words) == 1 and program.names():
        yield from (Candidate(name, text) for name, text in program.names().items())
    resolved = program.resolve(words)
    if resolved is not None and resolved.words:
        yield from _of_action(resolved.action, resolved.words)


def _of_action(action: Action, words: list[str]) -> Iterator[Candidate]:
    current, before = words[-1], words[:-1]
    flag = _open_flag(action, before, current)
    found = _fields(action, [word for word in before if word not in ("-h", "--help")])
    if flag:
        choices = found.get(flag)
        yield from choices.values if choices is not None else ()
        if choices is None or choices.needs_value:
            return
    if current.startswith("-") or not (flag or action.positional):
        yield from (Candidate(name, item.about) for name, item in found.items())
        yield Candidate(f"--{CONFIG_FLAG}", "YAML file with values for any of the flags")
        yield Candidate("--help", "the flags, what they mean, and their present values")


def _open_flag(action: Action, before: list[str], current: str) -> str:
    """The flag whose value stands at the cursor, or ""."""
    if current.startswith("--"):
        return current.partition("=")[0].replace("-", "_").replace("__", "--", 1) if "=" in current else ""
    for word in reversed(before):
        if word.startswith("--"):
            return "" if "=" in word else "--" + word[2:].replace("-", "_")
    return f"--{action.positional}" if action.positional else ""


class _Field(NamedTuple):
    values: list[Candidate]
    about: str
    needs_value: bool


def _fields(action: Action, before: list[str]) -> dict[str, _Field]:
    """Every flag that fits what is chosen so far."""
    tree, _ = cli.tolerant_tree(action.config_class, _flags(action.flags(before)))
    comments = {
        row.flag: row.comment for section in sections(action.config_class, tree) for row in section.rows
    }  # those of other stages are not among them
    found: dict[str, _Field] = {}
    for path, hint, value in fields(action.config_class, tree):
        if is_choice_type(hint) and is_open_choice(hint):
            known = hint.get_known_choices()
            names = [
                Candidate(name, about(known[name]) if name in known else "") for name in plugins.choice_names(hint)
            ]
            found[f"--{path}.{TYPE}"] = _Field(names, f"one of {len(names)}", True)
        elif inside(hint, value) is None:
            text = comments.get(f"--{path}", "")
            found[f"--{path}"] = _Field(_values(hint, text), text, hint is not bool)
    return found


def _flags(words: list[str]) -> Flags:
    """As many of the words as make sense; the command line is being typed."""
    while words:
        try:
            return parse_flags(words)
        except UserError:
            words = words[:-1]
    return Flags()


def _values(hint: Any, comment: str) -> list[Candidate]:
    """The values of a field that has few: by its type, or as its comment lists them."""
    shown = kind(hint).removesuffix("?")
    if "|" in shown:
        return [Candidate(word) for word in shown.split("|")]
    listed = _ALTERNATIVES.match(comment) if shown == "text" else None
    words = [part.partition(" ")[0] for part in listed[0].split(" | ")] if listed is not None else []
    return [] if any(word.startswith("-") for word in words) else [Candidate(word) for word in words]
