"""Values as the user wrote them, on the command line or in a file: text, lists and groups, each with its place."""

from __future__ import annotations

from dataclasses import dataclass

NULLS = ("", "~", "null", "Null", "NULL", "none", "None")


@dataclass(frozen=True)
class Place:
    """Where a value was written; `line` is None on the command line and in a program's own defaults."""

    origin: str
    line: int | None = None

    def __str__(self) -> str:
        return self.origin if self.line is None else f"{self.origin}:{self.line}"

    @property
    def suffix(self) -> str:
        """What an error message adds: the place in a file; on the command line the flag itself says it all."""
        return str(self) if self.line is not None else ""


COMMAND_LINE = Place("the command line")


@dataclass(frozen=True)
class Text:
    """A scalar. `words` are the arguments after a flag (none for a bare flag), and None for a scalar of a file."""

    value: str
    place: Place
    quoted: bool = False
    words: tuple[str, ...] | None = None

    @property
    def is_null(self) -> bool:
        """Whether it can mean None."""
        return not self.quoted and self.value in NULLS and self.words != ()


@dataclass(frozen=True)
class Items:
    """A list."""

    values: tuple[Node, ...]
    place: Place


@dataclass(frozen=True)
class Group:
    """Fields or keys by name. `partial`: made from a dotted flag, so it adds keys to a dict instead of replacing it."""

    values: dict[str, Node]
    place: Place
    partial: bool = False


Node = Text | Items | Group


def show(node: Node) -> str:
    """`node` as an error message quotes it."""
    if isinstance(node, Text):
        return repr(node.value) if len(node.value) <= 80 else repr(node.value[:77] + "...")
    return "a list" if isinstance(node, Items) else "a group of fields"
