"""From the command line to a configuration and back: `parse`, `run`, `load`, `dump`, `save`.

Precedence: defaults of the chosen variants < `defaults` of the program < `--config_path` file < other flags.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vla.conf.errors import UserError
from vla.conf.flags import Flags, parse_flags
from vla.conf.instantiate import instantiate
from vla.conf.merging import Merger, encode
from vla.conf.nodes import NULLS, Group, Node, Place
from vla.conf.yaml_text import load_file, load_text

Config = TypeVar("Config")


def parse(
    config_class: type[Config],
    argv: Sequence[str] | None = None,
    defaults: Config | Mapping[str, Any] | None = None,
    program: str | None = None,
) -> Config:
    """Parse a command line; `--help` prints the help that fits the choices on it and exits.

    Args:
        config_class: a dataclass.
        argv: words after the program's name; None: those of this process.
        defaults: an instance, or nested values by field name, that the file and the flags override.
        program: its name, for the help's usage line; None: that of this process.

    Raises:
        ConfigError: one line about the first thing that is wrong.
        SystemExit: after `--help`.
    """
    flags = parse_flags(sys.argv[1:] if argv is None else argv)
    base = defaults if isinstance(defaults, config_class) else None
    layers: list[Node] = [_as_group(defaults)] if isinstance(defaults, Mapping) else []
    if flags.help:
        from vla.conf.help import print_help

        print_help(config_class, *tolerant_tree(config_class, flags, base, layers), program)
        raise SystemExit(0)
    if flags.config_path is not None:
        layers.append(load_file(Path(flags.config_path).expanduser()))
    return _build(config_class, base, [*layers, *flags.layers])


def run(
    config_class: type[Config],
    function: Callable[[Config], int | None],
    argv: Sequence[str] | None = None,
    defaults: Config | Mapping[str, Any] | None = None,
    program: str | None = None,
) -> int:
    """The body of a script: parse, call `function`, and return the exit code; for `sys.exit`.

    A `UserError` (of which `ConfigError` is one) becomes one line `error: ...` on stderr and exit code 2.
    """
    try:
        config = parse(config_class, argv, defaults, program)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":  # every process of a launcher finds the same error
            _tell(error)
        return 2
    try:
        return function(config) or 0
    except UserError as error:
        _tell(error)
        return 2


def _tell(error: UserError) -> None:
    sys.stderr.write(f"error: {error}\n")  # in one piece: several processes may have something to say at once


def load(config_class: type[Config], path: str | Path) -> Config:
    """Read a YAML file, usually one that `save` wrote.

    Raises:
        ConfigError: one line about the first thing that is wrong.
    """
    return _build(config_class, None, [load_file(path)])


def dump(config: Any) -> str:
    """`config` as YAML in which every field stands, Enum members by value; `load` gives an equal one."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes a text that could be taken for "no value", and writes a list on one line."""

    Dumper.add_representer(str, _represent_text)
    Dumper.add_representer(list, _represent_list)
    return yaml.dump(encode(config), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


def save(config: Any, path: str | Path) -> None:
    """Write `dump(config)` to `path`, making its folder, so that the file is never seen half written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(dump(config), encoding="utf-8")
    partial.replace(path)


def _build(config_class: type[Config], base: Config | None, layers: list[Node]) -> Config:
    merger = Merger()
    tree = merger.build_dataclass(config_class, base, layers, "")
    config: Config = instantiate(config_class, tree, merger.places)
    return config


def tolerant_tree(
    config_class: Any, flags: Flags, base: Any = None, layers: Sequence[Node] = ()
) -> tuple[dict[str, Any], list[str]]:
    """What as much of a command line as can be used stands for, and one line about each part that can't.

    Args:
        config_class: a dataclass.
        flags: the command line.
        base: an instance that everything overrides, or None.
        layers: values below those of the command line.

    Returns:
        The tree that `Merger` builds, which need not be valid, and the lines.
    """

    def tree(layers: list[Node]) -> dict[str, Any]:
        return Merger(for_help=True).build_dataclass(config_class, base, layers, "")

    layers, notes = [*layers], list[str]()
    given: list[Node] = [*flags.layers]
    try:
        if flags.config_path is not None:
            given.insert(0, load_file(Path(flags.config_path).expanduser()))
        shown = tree([*layers, *given])
    except UserError as first:
        notes = [str(first)] if len(given) == len(flags.layers) and flags.config_path is not None else []
        shown = tree(layers)
        for layer in given:
            try:
                shown = tree([*layers, layer])
                layers = [*layers, layer]
            except UserError as error:
                notes.append(str(error))
    return shown, notes


def _as_group(values: Mapping[str, Any]) -> Group:
    """A program's nested values as a layer; keys may be dotted."""
    import yaml

    layer = Group({}, Place("the program"))
    plain: dict[str, Any] = {}
    for key, value in values.items():
        *parents, name = key.split(".")
        target = plain
        for parent in parents:
            target = target.setdefault(parent, {})
        target[name] = encode(value) if not isinstance(value, Mapping) else dict(value)
    node = load_text(yaml.safe_dump(plain), layer.place.origin, "defaults", layer.place)
    return node if isinstance(node, Group) else layer


def _represent_text(dumper: Any, text: str) -> Any:
    style = "'" if text in NULLS else None
    if not text.isprintable():
        style = '"'  # the only style that escapes every kind of line break
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _represent_list(dumper: Any, items: list[Any]) -> Any:
    plain = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)
