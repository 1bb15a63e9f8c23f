"""The one registry mechanism: Enum members into draccus choices, and a choice into the class that implements it."""

from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum
from functools import partial
from importlib import import_module
from typing import Any

_MOST_CHOICES = 10  # that an error lists

# For a config class that only gives other defaults to its parent's fields: comparing and showing are inherited, since
# making them anew for every variant of a large family would be a good part of what --help takes.
variant = partial(dataclass, frozen=True, eq=False, repr=False)


def register_enum(base: Any, enum: type[Enum], id_field: str) -> None:
    """Make every member of `enum` (its value is a config dataclass) a choice of `base` under its `id_field`."""
    for member in enum:
        base.register_subclass(getattr(member.value, id_field), member.value)


def available(base: Any) -> list[str]:
    """Ids of all registered choices of `base`, loaded plug-ins included, in order of registration."""
    return list(base.get_known_choices())


def suggest(name: str, choices: list[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest of `choices`, or an empty string when nothing is near."""
    near = max(choices, key=lambda choice: likeness(name, choice), default="")
    return f"; did you mean '{near}'?" if likeness(name, near) >= 0.5 else ""


def choices_text(name: str, choices: list[str]) -> str:
    """`"must be one of a, b, c, got 'x'; did you mean 'a'?"`, the nearest first, and not more than can be read."""
    ordered = sorted(choices, key=lambda choice: -likeness(name, choice))
    more = f" and {len(ordered) - _MOST_CHOICES} more" if len(ordered) > _MOST_CHOICES else ""
    listed = ", ".join(ordered[:_MOST_CHOICES])
    return f"must be one of {listed}{more}, got {name!r}{suggest(name, choices)}"


def likeness(name: str, choice: str) -> float:
    """How near two names are, from 0 to 1; one that only lacks the end of the other is very near."""
    ratio = SequenceMatcher(None, name, choice).ratio()
    return max(ratio, 0.9) if len(name) > 1 and choice.startswith(name) else ratio


def resolve_target(config: Any) -> Any:
    """Import the class that `config.target` ("module:Class") names. `target` is a class variable, never user input."""
    module, _, name = type(config).target.partition(":")
    return getattr(import_module(module), name)
