"""Range checks for configuration dataclasses: each raises `ValueError("field: what must hold, got value")`."""

from collections.abc import Iterable
from typing import Any


def require(field: str, condition: bool, rule: str, value: Any) -> None:
    """Raise `ValueError` naming `field`, the `rule` that it breaks and its `value` unless `condition` holds."""
    if not condition:
        raise ValueError(f"{field}: {rule}, got {value!r}")


def require_positive(config: Any, *fields: str) -> None:
    """Each of `fields` of `config` is None or > 0."""
    for field in fields:
        value = getattr(config, field)
        require(field, value is None or value > 0, "must be > 0", value)


def require_nonnegative(config: Any, *fields: str) -> None:
    """Each of `fields` of `config` is None or >= 0."""
    for field in fields:
        value = getattr(config, field)
        require(field, value is None or value >= 0, "must be >= 0", value)


def require_fraction(config: Any, *fields: str) -> None:
    """Each of `fields` of `config` is None or in [0, 1]."""
    for field in fields:
        value = getattr(config, field)
        require(field, value is None or 0 <= value <= 1, "must be within [0, 1]", value)


def require_choice(config: Any, field: str, choices: Iterable[str]) -> None:
    """`field` of `config` is one of `choices`."""
    value, known = getattr(config, field), list(choices)
    require(field, value in known, f"must be one of {', '.join(known)}", value)
