"""`ListConfig`: which registry `vla list` shows, and how."""

from dataclasses import dataclass

from vla.conf.checks import require_choice

KINDS = ("models", "datasets", "strategies")


@dataclass(frozen=True)
class ListConfig:
    """A table of what is registered: models, datasets or strategies, those of installed plug-ins too."""

    what: str = "models"  # models | datasets | strategies
    search: str | None = None  # only rows in which this text stands, in capitals or not
    json: bool = False  # a JSON list instead of a table

    def __post_init__(self) -> None:
        require_choice(self, "what", KINDS)
