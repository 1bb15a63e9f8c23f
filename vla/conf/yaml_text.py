"""YAML text as nodes, from the parser's events alone.

Nothing is constructed and nothing resolved: no tag can name code, a key can't stand twice, and what a text means is
left to the type of its field, so that `1e-4` is a number and `no` in a text field stays text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vla.conf.errors import ConfigError, one_line
from vla.conf.nodes import Group, Items, Node, Place, Text, show
from vla.conf.registry import suggest

_DEEPEST = 50  # nested lists and groups: more is no configuration, and would overflow the stack
_MOST = 100_000  # values, each counted as often as it is referred to: aliases of aliases make billions of a few lines
_LARGEST = 10 * 2**20  # bytes of a file
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}


def load_file(path: str | Path) -> Group:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: there is no such file, or it is not valid YAML, has a tag, or has a key twice.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError("config_path", f"must be smaller than {_LARGEST} bytes, got {str(path)!r}")
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
    """Read one YAML document.

    Args:
        text: the document.
        origin: the file's name, for messages.
        field: what an error is about.
        place: where every node stands; None: at its own line of `origin`.

    Raises:
        ConfigError: see `load_file`.
    """
    import yaml

    try:
        events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return _Reader(events, origin, field, place).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None and place is None else None
        problem = one_line(f"{error.context or ''} {error.problem or ''}")
        raise ConfigError(field, f"must be valid YAML: {problem}", str(Place(origin, line))) from None
    except yaml.YAMLError as error:
        raise ConfigError(field, f"must be valid YAML: {one_line(error)}", origin) from None


class _Reader:
    """Turns the events of one document into nodes."""

    def __init__(self, events: Iterator[Any], origin: str, field: str, place: Place | None) -> None:
        self._events, self._origin, self._field, self._place = events, origin, field, place
        self._anchors: dict[str, Node] = {}
        self._count, self._counts = 0, dict[str, int]()  # of values so far; of those below an anchor

    def read(self) -> Node:
        """The document's node; an empty document is an empty text."""
        import yaml

        node: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.NodeEvent):
                node = self._node(event, self._at(event), 0)
            elif isinstance(event, yaml.DocumentStartEvent) and node is not None:
                raise self._error("must hold one document", self._at(event))
        return node if node is not None else Text("", self._place or Place(self._origin, 1))

    def _node(self, event: Any, place: Place, depth: int) -> Node:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._error(f"no such anchor, got '*{event.anchor}'", place)
            self._add(self._counts[event.anchor], place)
            return self._anchors[event.anchor]
        if event.tag is not None and event.tag not in _TAGS:
            raise self._error(f"tags are not allowed, got {event.tag}", place)
        if depth > _DEEPEST:
            raise self._error(f"must not be nested deeper than {_DEEPEST} levels", place)
        before = self._count
        self._add(1, place)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Text(event.value, place, quoted=bool(event.style))
        elif isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(item := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(item, self._at(item), depth + 1))
            node = Items(tuple(items), place)
        else:
            node = Group(self._entries(depth), place)
        if event.anchor is not None:
            self._anchors[event.anchor], self._counts[event.anchor] = node, self._count - before
        return node

    def _add(self, count: int, place: Place) -> None:
        self._count += count
        if self._count > _MOST:
            raise self._error(f"must not hold more than {_MOST} values, aliases included", place)

    def _entries(self, depth: int) -> dict[str, Node]:
        """Keys and values up to the end of a mapping. A value stands where its key stands."""
        import yaml

        values: dict[str, Node] = {}
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            place = self._at(key)
            if not isinstance(key, yaml.ScalarEvent):
                raise self._error("keys must be names", place)
            if key.value in values:
                raise self._error(f"key given twice, got {key.value!r}", place)
            values[key.value] = self._node(next(self._events), place, depth + 1)
        return values

    def _at(self, event: Any) -> Place:
        return self._place or Place(self._origin, event.start_mark.line + 1)

    def _error(self, problem: str, place: Place) -> ConfigError:
        return ConfigError(self._field, problem, place.suffix)
