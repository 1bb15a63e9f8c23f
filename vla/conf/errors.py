"""Errors about configuration values."""

from vla.errors import UserError

__all__ = ["ConfigError", "UserError", "one_line"]


class ConfigError(UserError):
    """A configuration value that can't be used.

    Args:
        field: dotted path of the field, as on the command line.
        problem: what must hold and what was found instead.
        place: "file:line" when the value comes from a file.
    """

    def __init__(self, field: str, problem: str, place: str = "") -> None:
        self.field, self.problem, self.place = field, one_line(problem), place
        super().__init__(f"{field}: {self.problem}" + (f" ({place})" if place else ""))


def one_line(text: object) -> str:
    """`text` with every run of white space and line breaks as one space."""
    return " ".join(str(text).split())
