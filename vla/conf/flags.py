"""The command line as layers of values: `--a.b=c`, `--a.b c`, `--a.b c d`, bare `--flag`, dashes or underscores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vla.conf.errors import ConfigError
from vla.conf.nodes import COMMAND_LINE, Group, Node, Text

CONFIG_FLAG = "config_path"


@dataclass
class Flags:
    """What stands on a command line. Each flag is a layer of its own: later ones take precedence."""

    help: bool = False
    config_path: str | None = None
    layers: list[Group] = field(default_factory=list)


def parse_flags(argv: Sequence[str]) -> Flags:
    """Cut `argv` (without the program's name) into flags.

    Raises:
        ConfigError: a word that belongs to no flag, or a `--config_path` without a file.
    """
    flags = Flags()
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            flags.help = True
            continue
        if not word.startswith("--") or word == "--":
            hint = f"; did you mean --{CONFIG_FLAG} {word}?" if word.endswith((".yaml", ".yml")) else ""
            raise ConfigError("command line", f"must be --field value, got {word!r}{hint}")
        name, equals, value = word[2:].partition("=")
        values = [value] if equals else []
        while not equals and words and not words[0].startswith("--") and words[0] != "-h":
            values.append(words.pop(0))
        if not all(name.split(".")):
            raise ConfigError("command line", f"must be --field value, got {word!r}")
        if name.replace("-", "_") == CONFIG_FLAG:
            if len(values) != 1 or not values[0]:
                raise ConfigError(CONFIG_FLAG, f"takes one file, got {' '.join(values)!r}")
            if flags.config_path is not None:
                raise ConfigError(CONFIG_FLAG, f"must be given once, got {flags.config_path!r} and {values[0]!r}")
            flags.config_path = values[0]
        else:
            flags.layers.append(_layer(name.split("."), Text(" ".join(values), COMMAND_LINE, words=tuple(values))))
    return flags


def _layer(names: list[str], value: Node) -> Group:
    for name in reversed(names):
        value = Group({name: value}, COMMAND_LINE, partial=True)
    assert isinstance(value, Group)
    return value
