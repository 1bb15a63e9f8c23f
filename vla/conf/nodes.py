"""Values as the user wrote them: text, lists and groups with the place where they stand.

YAML is only composed, never constructed: no tag can name code, and a field's type decides what a text means, so that
`1e-4` is a number, `no` in a text field stays text, and the command line and a file are read by the same rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.conf.errors import ConfigError, one_line
from vla.conf.registry import suggest

_TAG = "tag:yaml.org,2002:"
_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map", "timestamp", "merge", "value")}
NULLS = ("", "~", "null", "Null", "NULL", "none", "None")


@dataclass(frozen=True)
class Place:
    """Where a value was written; `line` is None on the command line and in a program's own defaults."""

    origin: str
    line: int | None = None

    def __str__(self) -> str:
        return self.origin if self.line is None else f"{self.origin}:{self.line}"

    @property
    def suffix(self) -> str:
        """What an error message adds: the place in a file; on the command line the flag itself says it all."""
        return str(self) if self.line is not None else ""


COMMAND_LINE = Place("the command line")


@dataclass(frozen=True)
class Text:
    """A scalar. `words` are the arguments after a flag (none for a bare flag), and None for a scalar of a file."""

    value: str
    place: Place
    quoted: bool = False
    words: tuple[str, ...] | None = None

    @property
    def is_null(self) -> bool:
        """Whether it can mean None."""
        return not self.quoted and self.value in NULLS and self.words != ()


@dataclass(frozen=True)
class Items:
    """A list."""

    values: tuple[Node, ...]
    place: Place


@dataclass(frozen=True)
class Group:
    """Fields or keys by name. `partial`: made from a dotted flag, so it adds keys to a dict instead of replacing it."""

    values: dict[str, Node]
    place: Place
    partial: bool = False


Node = Text | Items | Group


def show(node: Node) -> str:
    """`node` as an error message quotes it."""
    if isinstance(node, Text):
        return repr(node.value) if len(node.value) <= 80 else repr(node.value[:77] + "...")
    return "a list" if isinstance(node, Items) else "a group of fields"


def load_file(path: str | Path) -> Group:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: there is no such file, or it is not valid YAML, has a tag, or has a key twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = suggest(path.name, [item.name for item in path.parent.glob("*.y*ml")])
        raise ConfigError("config_path", f"no such file, got {str(path)!r}{near}") from None
    except UnicodeDecodeError:
        raise ConfigError("config_path", f"must be UTF-8 text, got {str(path)!r}") from None
    except OSError as error:
        raise ConfigError("config_path", f"must be a readable file, got {str(path)!r} ({error.strerror})") from None
    node = load_text(text, str(path), "config_path")
    if isinstance(node, Text) and node.is_null:
        return Group({}, Place(str(path), 1))
    if not isinstance(node, Group):
        raise ConfigError("config_path", f"must hold fields and values, got {show(node)}", str(path))
    return node


def load_text(text: str, origin: str, field: str, place: Place | None = None) -> Node:
    """Read YAML text; every node stands at `place`, or at its own line of `origin`."""
    import yaml

    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None and place is None else None
        problem = one_line(f"{error.context or ''} {error.problem or ''}")
        raise ConfigError(field, f"must be valid YAML: {problem}", str(Place(origin, line))) from None
    except yaml.YAMLError as error:
        raise ConfigError(field, f"must be valid YAML: {one_line(error)}", origin) from None
    if node is None:
        return Text("", place or Place(origin, 1))
    return _convert(node, origin, field, place, place or Place(origin, node.start_mark.line + 1), ())


def _convert(node: Any, origin: str, field: str, fixed: Place | None, place: Place, parents: tuple[int, ...]) -> Node:
    """A composed YAML node as ours. A value stands where its key stands."""
    if node.tag not in _TAGS or id(node) in parents:
        problem = f"tags are not allowed, got {node.tag}" if id(node) not in parents else "an alias contains itself"
        raise ConfigError(field, problem, place.suffix)
    parents = (*parents, id(node))
    if node.id == "scalar":
        return Text(node.value, place, quoted=bool(node.style))

    def at(child: Any) -> Place:
        return fixed or Place(origin, child.start_mark.line + 1)

    if node.id == "sequence":
        items = (_convert(child, origin, field, fixed, at(child), parents) for child in node.value)
        return Items(tuple(items), place)
    values: dict[str, Node] = {}
    for key, child in node.value:
        if key.id != "scalar":
            raise ConfigError(field, "keys must be names", at(key).suffix)
        if key.value in values:
            raise ConfigError(field, f"key given twice, got {key.value!r}", at(key).suffix)
        values[key.value] = _convert(child, origin, field, fixed, at(key), parents)
    return Group(values, place)
