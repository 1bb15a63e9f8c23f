"""The one registry mechanism: Enum members into draccus choices, choices into classes, plug-ins by entry point."""

from difflib import get_close_matches
from enum import Enum
from importlib import import_module
from typing import Any


def register_enum(base: Any, enum: type[Enum], id_field: str) -> None:
    """Make every member of `enum` (its value is a config dataclass) a choice of `base` under its `id_field`."""
    for member in enum:
        base.register_subclass(getattr(member.value, id_field), member.value)


def available(base: Any) -> list[str]:
    """Ids of all registered choices of `base`, plug-ins included, in order of registration."""
    return list(base.get_known_choices())


def suggest(name: str, choices: list[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest of `choices`, or an empty string when nothing is near."""
    near = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else ""


def resolve_target(config: Any) -> Any:
    """Import the class that `config.target` ("module:Class") names. `target` is a class variable, never user input."""
    module, _, name = type(config).target.partition(":")
    return getattr(import_module(module), name)
