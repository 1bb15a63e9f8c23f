"""What to tell a user who names a field that does not exist."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from draccus.utils import is_choice_type

from vla.conf.errors import ConfigError
from vla.conf.nodes import Group, Node, Place, show
from vla.conf.registry import likeness

_MOST_FIELDS = 12  # that an error lists


def unknown_field(
    hint: Any,
    config_class: type,
    values: dict[str, Any],
    key: str,
    node: Node,
    path: str,
    chosen: str | None,
    chosen_at: Place | None,
) -> ConfigError:
    """The error that `key` is no field of `config_class`.

    Args:
        hint: the declared type of the group, a choice or a dataclass.
        config_class: the group's class.
        values: its values.
        key: the unknown name.
        node: what was written for it.
        path: dotted path of the group.
        chosen: the group's `type`, if it has one.
        chosen_at: where that type was chosen, if by something of higher precedence than `node`.
    """
    field = f"{path}.{key}" if path else key
    while isinstance(node, Group) and node.partial:  # a dotted flag: name all of it
        ((inner, node),) = node.values.items()
        field = f"{field}.{inner}"
    if chosen_at is not None:
        set_in = f"set in {node.place}" if node.place.line is not None else f"set by {node.place}"
        return ConfigError(field, f"no such field of '{chosen}', which {chosen_at} chose; it was {set_in}")
    of_type = f" of '{chosen}'" if chosen else ""
    names = field_names(config_class)
    hint_text = _near(key, names) or _of_other_type(hint, key) or _deeper(values, key) or _list(names)
    return ConfigError(field, f"no such field{of_type}, got {show(node)}; {hint_text}", node.place.suffix)


def field_names(config_class: Any) -> list[str]:
    """Names of the fields that can be set; class variables such as `target` are not among them."""
    return [item.name for item in dataclasses.fields(config_class) if item.init]


def _near(key: str, names: list[str]) -> str:
    near = max(names, key=lambda name: likeness(key, name), default="")
    return f"did you mean '{near}'?" if likeness(key, near) >= 0.7 else ""


def _of_other_type(hint: Any, key: str) -> str:
    """Registered types of a choice that have the field."""
    if not is_choice_type(hint):
        return ""
    known = hint.get_known_choices().items()
    having = [name for name, choice in known if issubclass(choice, hint) and key in field_names(choice)]
    return f"it is a field of {', '.join(repr(name) for name in having[:4])}" if having else ""


def _deeper(values: dict[str, Any], key: str) -> str:
    """Where a field of that name lies further down."""
    paths = [path for path in _paths(values) if path.rpartition(".")[2] == key][:3]
    return f"did you mean {' or '.join(repr(path) for path in paths)}?" if paths else ""


def _paths(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield name
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            inner = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
            yield from (f"{name}.{path}" for path in _paths(inner))


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_FIELDS} more (see --help)" if len(names) > _MOST_FIELDS else ""
    return f"the fields are {', '.join(names[:_MOST_FIELDS])}{more}"
