"""Defaults, file and command line merged into one tree of plain values, which draccus then decodes.

A field that nobody sets keeps the value that the *chosen variant* gives it, however deep it lies: a file that sets
`model.align.learning_rate` changes nothing else of that variant's stage. When a nested choice changes its type, the new
type's own defaults apply.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any

import draccus
from draccus.utils import is_choice_type

from vla.conf import plugins
from vla.conf.errors import ConfigError
from vla.conf.nodes import Group, Items, Node, Place, Text, show
from vla.conf.reading import fail, read_scalar, strip_optional
from vla.conf.unknown import unknown_field
from vla.conf.yaml_text import load_text

TYPE = draccus.CHOICE_TYPE_KEY
REQUIRED = object()  # in a tree for --help: a field that has no default and was not set


def field_types(config_class: Any) -> dict[str, Any]:
    """Types of the fields that can be set, by name, in order. Class variables (`target`, ids) are not among them."""
    return _field_types(config_class)


@cache
def _field_types(config_class: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(config_class)
    return {item.name: hints[item.name] for item in dataclasses.fields(config_class) if item.init}


def field_defaults(config_class: Any) -> dict[str, Any]:
    """Default values by field; required fields are missing."""
    values = {}
    for item in dataclasses.fields(config_class):
        if item.default is not dataclasses.MISSING:
            values[item.name] = item.default
        elif item.default_factory is not dataclasses.MISSING:
            values[item.name] = item.default_factory()
    return values


def is_open_choice(hint: Any) -> bool:
    """Whether `hint` is the base of a registry, of which a registered subclass is chosen by `type`."""
    return is_choice_type(hint) and registered_name(hint) is None


def registered_name(config_class: Any) -> str | None:
    """The id under which a class is registered, if it is."""
    known = config_class.get_known_choices() if hasattr(config_class, "get_known_choices") else {}
    return next((name for name, choice in known.items() if choice is config_class), None)


class Merger:
    """Builds trees; `places` remembers where the value of each path was written.

    Args:
        for_help: leave `REQUIRED` where a value is missing.
    """

    def __init__(self, for_help: bool = False) -> None:
        self.places: dict[str, Place] = {}
        self._for_help = for_help

    def build(self, hint: Any, base: Any, nodes: Sequence[Node], path: str) -> Any:
        """The plain value of one field.

        Args:
            hint: its type.
            base: the value that it has when nobody sets it; `dataclasses.MISSING` for a required one.
            nodes: what was written for it, in rising precedence.
            path: its dotted path.

        Raises:
            ConfigError: a value does not fit.
        """
        hint, optional = strip_optional(hint)
        if nodes:
            self.places[path] = nodes[-1].place
        elif base is dataclasses.MISSING and not dataclasses.is_dataclass(hint):
            if self._for_help:
                return REQUIRED
            raise ConfigError(path, "must be set, it has no default")
        if optional:
            nulls = [i for i, node in enumerate(nodes) if isinstance(node, Text) and node.is_null]
            if nulls:
                base, nodes = None, nodes[nulls[-1] + 1 :]
            if base is None and not nodes:
                return None
        if dataclasses.is_dataclass(hint):
            return self.build_dataclass(hint, None if base is dataclasses.MISSING else base, nodes, path)
        origin = typing.get_origin(hint) or hint
        if origin is dict:
            return self._build_dict(hint, base, nodes, path)
        if origin in (tuple, list, set, frozenset):
            return self._build_items(hint, base, nodes, path)
        return read_scalar(hint, nodes[-1], path) if nodes else encode(base, hint)

    def build_dataclass(self, hint: Any, base: Any, nodes: Sequence[Node], path: str) -> dict[str, Any]:
        """The tree of a nested group of fields; like `build`.

        A class may have `dependent_default(name, default, fields)`, which gives the default of a field that depends on
        the plain values of the fields before it.
        """
        groups = [self._group(hint, node, path) for node in nodes]
        config_class, name, chooser = self._choose(hint, base, groups, path)
        values = field_defaults(config_class)
        if base is not None and type(base) is config_class:
            values = {key: getattr(base, key) for key in field_types(config_class)}
        types = field_types(config_class)
        written: dict[str, list[Node]] = {key: [] for key in types}
        for index, group in enumerate(groups):
            for key, node in group.values.items():
                if key == TYPE and name is not None:
                    continue
                if group.partial and key not in types:
                    key = key.replace("-", "_")
                if key not in types:
                    earlier = groups[chooser].values[TYPE].place if chooser is not None and index < chooser else None
                    raise unknown_field(hint, config_class, values, key, node, path, name, earlier)
                written[key].append(node)
        tree: dict[str, Any] = {TYPE: name} if name is not None and is_open_choice(hint) else {}
        dependent_default = getattr(config_class, "dependent_default", None)
        for key, field_type in types.items():
            base_value = values.get(key, dataclasses.MISSING)
            if dependent_default is not None:
                base_value = dependent_default(key, base_value, tree)
            tree[key] = self.build(field_type, base_value, written[key], join(path, key))
        return tree

    def _group(self, hint: Any, node: Node, path: str) -> Group:
        if isinstance(node, Text) and node.value.startswith("{") and not node.quoted:
            node = load_text(node.value, str(node.place), path, node.place)
        if isinstance(node, Text) and node.is_null:
            return Group({}, node.place)
        if not isinstance(node, Group):
            write = f"; did you mean {join(path, TYPE)}?" if is_open_choice(hint) and isinstance(node, Text) else ""
            raise ConfigError(path, f"must be a group of fields, got {show(node)}{write}", node.place.suffix)
        return node

    def _choose(self, hint: Any, base: Any, groups: Sequence[Group], path: str) -> tuple[Any, str | None, int | None]:
        """The class of a group, the name of its type (None where there is no choice), and which of `groups` chose."""
        name, chooser = registered_name(hint if base is None else type(base)), None
        if base is not None and type(base) is not hint and (name is None or not is_open_choice(hint)):
            raise ConfigError(path or "config", f"{type(base).__name__} is not a registered choice of {hint.__name__}")
        if is_open_choice(hint) and name is None:
            name = hint.default_choice_name()
        for index, group in enumerate(groups):
            node = group.values.get(TYPE)
            if node is not None and (name is not None or is_open_choice(hint)):
                chosen = read_scalar(str, node, join(path, TYPE))
                if chosen != name and not is_open_choice(hint):
                    raise fail(join(path, TYPE), f"must be {name}", node)
                name, chooser = chosen, index
        if not is_open_choice(hint):
            return hint, name, chooser
        place = groups[chooser].values[TYPE].place.suffix if chooser is not None else ""
        return plugins.find_choice(hint, name or "", join(path, TYPE), place), name, chooser

    def _build_dict(self, hint: Any, base: Any, nodes: Sequence[Node], path: str) -> dict[Any, Any]:
        key_type, value_type = typing.get_args(hint) or (str, Any)
        known = {} if base is dataclasses.MISSING else dict(base)
        written: dict[str, Node] = {}
        for node in nodes:
            if isinstance(node, Text) and node.value.startswith("{") and not node.quoted:
                node = load_text(node.value, str(node.place), path, node.place)
            if not isinstance(node, Group):
                raise fail(path, "must be {name: value, ...}", node)
            if not node.partial:  # a dict given as a whole replaces what it was, so that keys can be removed
                known, written = {}, {}
            written |= node.values
        tree = {encode(key, key_type): encode(value, value_type) for key, value in known.items()}
        for name, node in written.items():
            key = read_scalar(key_type, Text(name, node.place, quoted=True), join(path, name))
            tree[key] = self.build(value_type, dataclasses.MISSING, [node], join(path, name))
        return tree

    def _build_items(self, hint: Any, base: Any, nodes: Sequence[Node], path: str) -> list[Any]:
        types = typing.get_args(hint) or (Any,)
        fixed = typing.get_origin(hint) is tuple and types[-1] is not Ellipsis
        if not nodes:
            items = list(base)
            types = types if fixed else (types[0],) * len(items)
            return [encode(item, item_type) for item, item_type in zip(items, types, strict=True)]
        values = _split(nodes[-1], path)
        if fixed and len(values) != len(types):
            raise fail(path, f"must be {len(types)} values", nodes[-1])
        types = types if fixed else (types[0],) * len(values)
        pairs = zip(types, values, strict=True)
        return [self.build(kind, dataclasses.MISSING, [value], f"{path}[{i}]") for i, (kind, value) in enumerate(pairs)]


def join(path: str, name: str) -> str:
    """A dotted path."""
    return f"{path}.{name}" if path else name


def _split(node: Node, path: str) -> list[Node]:
    """The items of a list: `[a, b]`, `a,b`, or on the command line also `a b`."""
    if isinstance(node, Items):
        return list(node.values)
    if not isinstance(node, Text) or node.words == ():
        raise fail(path, "must be a list like [a, b]; [] is the empty one", node)
    if node.quoted:
        return [node]
    if node.value.lstrip().startswith("["):
        items = load_text(node.value, str(node.place), path, node.place)
        if isinstance(items, Items):
            return list(items.values)
    words = node.words or (node.value,)
    parts = [part.strip() for word in words for part in word.split(",")]
    parts = [part for part in parts if part]
    if not parts:
        raise fail(path, "must be a list like [a, b]; [] is the empty one", node)
    return [Text(part, node.place) for part in parts]


def encode(value: Any, hint: Any = Any) -> Any:
    """A Python value as plain data that is read back to an equal one; Enum members by value."""
    hint, _ = strip_optional(hint)
    if value is None:
        return None
    if dataclasses.is_dataclass(value):
        if not dataclasses.is_dataclass(hint):
            hint = next(filter(is_choice_type, inspect.getmro(type(value))), type(value))
        return Merger().build_dataclass(hint, value, [], "")
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str | int | float) else value.name
    if isinstance(value, dict):
        key_type, value_type = typing.get_args(hint) or (Any, Any)
        return {encode(key, key_type): encode(item, value_type) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        types = typing.get_args(hint) or (Any,)
        one_each = len(types) == len(value) and Ellipsis not in types
        return [encode(item, types[i] if one_each else types[0]) for i, item in enumerate(value)]
    return draccus.encode(value)
