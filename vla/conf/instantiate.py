"""A merged tree into dataclasses by draccus, with the full path of the field in the error of a `__post_init__`."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any

import draccus
from draccus.utils import is_choice_type

from vla.conf.errors import ConfigError, one_line
from vla.conf.merging import TYPE, field_types, is_open_choice, join
from vla.conf.nodes import Place
from vla.conf.reading import strip_optional

_FIELD_MESSAGE = re.compile(r"([A-Za-z_][\w.\-\[\]]*): (.+)", re.DOTALL)


def instantiate(config_class: Any, tree: dict[str, Any], places: Mapping[str, Place]) -> Any:
    """Decode `tree`.

    Args:
        config_class: its dataclass.
        tree: plain values by field, complete.
        places: where the values of some dotted paths were written.

    Raises:
        ConfigError: a class refused its values.
    """
    try:
        return draccus.decode(config_class, tree)
    except Exception as error:
        path, cause = _locate(config_class, tree, "", error)
    match = _FIELD_MESSAGE.fullmatch(str(cause)) if isinstance(cause, ValueError) else None
    if match:
        path, problem = join(path, match[1]), match[2]
    else:
        problem = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
    raise ConfigError(path or "config", one_line(problem), _place(path, places)) from None


def _locate(hint: Any, tree: Any, path: str, error: BaseException) -> tuple[str, BaseException]:
    """The deepest group that can't be made, and why. draccus itself does not say which one it was."""
    config_class = hint.get_choice_class(tree[TYPE]) if is_choice_type(hint) and is_open_choice(hint) else hint
    for name, field_type in field_types(config_class).items():
        inner, _ = strip_optional(field_type)
        groups = [(inner, tree[name], name)]
        if typing.get_origin(inner) in (tuple, list) and isinstance(tree[name], list):
            item = typing.get_args(inner)[0]
            groups = [(item, value, f"{name}[{number}]") for number, value in enumerate(tree[name])]
        for group, value, place in groups:
            if dataclasses.is_dataclass(group) and isinstance(value, dict):
                try:
                    draccus.decode(group, value)
                except Exception as inner_error:
                    return _locate(group, value, join(path, place), inner_error)
    while error.__cause__ is not None:
        error = error.__cause__
    return path, error


def _place(path: str, places: Mapping[str, Place]) -> str:
    """Where the value was written, if in a file: that of the field, or of a group around it."""
    while path:
        if path in places:
            return places[path].suffix
        path = re.sub(r"(^|\.)[^.\[]+$|\[\d+\]$", "", path)
    return ""
