"""One written value as a field's type asks for it, or an error that says what it must be."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any

from vla.conf.errors import ConfigError
from vla.conf.nodes import COMMAND_LINE, NULLS, Group, Items, Node, Text, show
from vla.conf.registry import choices_text

_INT = re.compile(r"[-+]?[0-9](_?[0-9])*")


def strip_optional(hint: Any) -> tuple[Any, bool]:
    """`X | None` as (X, True), anything else as (hint, False)."""
    if typing.get_origin(hint) in (typing.Union, UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        if len(members) < len(typing.get_args(hint)):
            return (members[0] if len(members) == 1 else typing.Union[tuple(members)]), True  # noqa: UP007
    return hint, False


def fail(path: str, rule: str, node: Node) -> ConfigError:
    """The error that the value at `path` breaks `rule`."""
    if isinstance(node, Text) and node.words == ():
        return ConfigError(path, f"needs a value: {rule}")
    if isinstance(node, Text) and node.words is not None and len(node.words) > 1 and "list" not in rule:
        rule = f"takes one value: {rule}"
    return ConfigError(path, f"{rule}, got {show(node)}", node.place.suffix)


def read_scalar(hint: Any, node: Node, path: str) -> Any:
    """`node` as a plain value (str, int, float, bool) that draccus turns into `hint`.

    Raises:
        ConfigError: the text does not fit the type.
    """
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _read_member(hint, node, path)
    if typing.get_origin(hint) is typing.Literal:
        return _read_literal(typing.get_args(hint), node, path)
    reader = _READERS.get(hint)
    if reader is None:  # a type with a decoder of its own, registered with draccus
        return to_plain(node)
    rule, function = reader
    if hint is bool and isinstance(node, Text) and node.words == ():
        return True
    if not isinstance(node, Text) or (node.words is not None and len(node.words) != 1):
        raise fail(path, rule, node)
    try:
        if hint is Path and node.place == COMMAND_LINE and node.value.startswith("~"):
            return str(Path(node.value).expanduser())  # the shell does not do it after "="
        return function(node.value, node.quoted)
    except (ValueError, RuntimeError):
        raise fail(path, rule, node) from None


def to_plain(node: Node) -> Any:
    """A value of unknown type by its looks: null, true, false, a number, text, a list or a dict of these."""
    if isinstance(node, Items):
        return [to_plain(value) for value in node.values]
    if isinstance(node, Group):
        return {key: to_plain(value) for key, value in node.values.items()}
    if node.is_null or node.quoted:
        return node.value if node.quoted else None
    for function in (_read_bool, _read_int, _read_float):
        try:
            return function(node.value, False)
        except ValueError:
            pass
    return node.value


def _read_bool(text: str, quoted: bool) -> bool:
    return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _refuse(text)


def _read_int(text: str, quoted: bool) -> int:
    return int(text) if _INT.fullmatch(text) else _refuse(text)


def _read_float(text: str, quoted: bool) -> float:
    return float(text) if math.isfinite(float(text)) else _refuse(text)


def _read_text(text: str, quoted: bool) -> str:
    # "none" is a word of its own in some fields (lr_scaling: none); YAML's other nulls are no text.
    return text if quoted or text in ("none", "None") or text not in NULLS else _refuse(text)


def _refuse(text: str) -> Any:
    raise ValueError(text)


_READERS: dict[Any, tuple[str, Callable[[str, bool], Any]]] = {
    bool: ("must be true or false", _read_bool),
    int: ("must be an integer", _read_int),
    float: ("must be a finite number", _read_float),
    str: ("must be text", _read_text),
    Path: ("must be a path", _read_text),
}


def _read_member(enum: type[Enum], node: Node, path: str) -> Any:
    text = node.value if isinstance(node, Text) else None
    for member in enum:
        if text in (str(member.value), member.name):
            return member.value
    choices = [str(member.value) for member in enum]
    raise ConfigError(path, choices_text(text or "", choices), node.place.suffix)


def _read_literal(choices: tuple[Any, ...], node: Node, path: str) -> Any:
    text = node.value if isinstance(node, Text) else None
    for choice in choices:
        if text == str(choice) or (isinstance(choice, bool) and text == str(choice).lower()):
            return choice
    raise ConfigError(path, choices_text(text or "", [str(choice) for choice in choices]), node.place.suffix)
