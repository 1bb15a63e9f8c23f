"""Models, datasets and strategies of other packages, found by entry points and loaded when their choice is asked for.

A package declares a config dataclass under its id; registering it is done here:

    [project.entry-points."vla.models"]
    my-model = "my_package.conf:MyModelConfig"    # MyModelConfig.model_id == "my-model"
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any

from vla.conf.datasets import DatasetConfig
from vla.conf.errors import ConfigError, one_line
from vla.conf.models import ModelConfig
from vla.conf.registry import choices_text
from vla.conf.strategies import StrategyConfig

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS: dict[str, tuple[Any, str]] = {
    "vla.models": (ModelConfig, "model_id"),
    "vla.datasets": (DatasetConfig, "dataset_id"),
    "vla.strategies": (StrategyConfig, "strategy_id"),
}


class PluginError(Exception):
    """A plug-in can't be used; the message names its distribution."""


@cache
def _entry_points() -> dict[str, list[EntryPoint]]:
    """Entry points by group, looked up once: every installed distribution's metadata is read."""
    from importlib.metadata import entry_points  # not needed while every choice is known

    found = entry_points()
    return {group: list(found.select(group=group)) for group in GROUPS}


def refresh() -> None:
    """Look for plug-ins anew, after packages were installed or `sys.path` changed."""
    _entry_points.cache_clear()
    _load.cache_clear()


def choice_names(hint: Any) -> list[str]:
    """Ids of everything that `hint` can be: registered choices, then plug-ins that are not loaded yet."""
    names = [name for name, choice in hint.get_known_choices().items() if issubclass(choice, hint)]
    return names + [entry.name for entry in _entry_points_of(hint) if entry.name not in hint.get_known_choices()]


def find_choice(hint: Any, name: str, path: str, place: str = "") -> Any:
    """The config class that is registered as `name`, loading the plug-in that declares it if need be.

    Raises:
        ConfigError: no such choice, or its plug-in does not load.
    """
    failures = []
    if name not in hint.get_known_choices():
        # An entry point's name should be the id. One that is not can still declare it: try it last.
        for entry in sorted(_entry_points_of(hint), key=lambda entry: entry.name != name):
            try:
                _load(entry)
            except PluginError as error:
                if entry.name == name:
                    raise ConfigError(path, f"{error}, got {name!r}", place) from None
                failures.append(str(error))
            if name in hint.get_known_choices():
                break
    choice = hint.get_known_choices().get(name)
    if choice is None or not issubclass(choice, hint):
        failed = "".join(f"; {failure}" for failure in failures)
        raise ConfigError(path, choices_text(name, choice_names(hint)) + failed, place)
    return choice


def load_all() -> list[str]:
    """Load every plug-in, and return one line about each that does not load."""
    failures = []
    for entries in _entry_points().values():
        for entry in entries:
            try:
                _load(entry)
            except PluginError as error:
                failures.append(str(error))
    return failures


def _entry_points_of(hint: Any) -> list[EntryPoint]:
    return [entry for group, (base, _) in GROUPS.items() if issubclass(hint, base) for entry in _entry_points()[group]]


@cache
def _load(entry: EntryPoint) -> None:
    """Import an entry point's config class and register it.

    Raises:
        PluginError: it can't be imported, or is not what its group asks for.
    """
    base, id_field = GROUPS[entry.group]
    distribution = entry.dist.name if entry.dist is not None else "unknown"
    who = f"plug-in '{entry.name}' of package '{distribution}'"
    try:
        choice = entry.load()
    except BaseException as error:  # whatever a foreign module does at import
        if isinstance(error, KeyboardInterrupt):
            raise
        raise PluginError(f"{who} does not load ({type(error).__name__}: {one_line(error)})") from error
    if not (isinstance(choice, type) and issubclass(choice, base) and dataclasses.is_dataclass(choice)):
        raise PluginError(f"{who} must be a dataclass that inherits from {base.__name__}")
    name, target = (getattr(choice, attribute) for attribute in (id_field, "target"))
    if not name or not target.partition(":")[2]:
        raise PluginError(f"{who} must set {id_field} and target ('module:Class')")
    if base.get_known_choices().get(name, choice) is not choice:
        raise PluginError(f"{who} can't be registered: the {id_field} '{name}' is taken")
    base.register_subclass(name, choice)
