"""`vla list`: what is registered as a table; on a terminal with colours, else a line each with tabs between."""

from __future__ import annotations

import json
import sys

from vla.commands.catalog import COLUMNS, Row, rows
from vla.commands.program import Action
from vla.conf import plugins
from vla.conf.listing import ListConfig


def list_registered(config: ListConfig) -> int:
    """Print the table; returns the exit code."""
    for line in plugins.load_all():
        print(f"note: {line}", file=sys.stderr)
    columns = COLUMNS[config.what]
    found = [row for row in rows(config.what) if _matches(row, config.search)]
    if config.json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in found], indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(columns, found)
    else:
        print("\n".join("\t".join(_flat(cell) for cell in row) for row in [columns, *found]), flush=True)
    return 0


def _matches(row: Row, text: str | None) -> bool:
    return text is None or text.lower() in " ".join(_flat(cell) for cell in row).lower()


def _flat(cell: str | tuple[str, ...]) -> str:
    return cell if isinstance(cell, str) else "; ".join(cell)


def _print_table(columns: tuple[str, ...], found: list[Row]) -> None:
    """A table with rules between systems (the second column); cells with several values have a line for each."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", border_style="dim", pad_edge=False, expand=False)
    for number, column in enumerate(columns):
        style = "bold" if number == 0 else ""
        justify = "right" if column == "parameters" else "left"
        table.add_column(column, style=style, overflow="fold", no_wrap=column in ("id", "parameters"), justify=justify)  # type: ignore[arg-type]
    for number, row in enumerate(found):
        ends = number + 1 == len(found) or found[number + 1][1] != row[1]
        cells = [Text(cell if isinstance(cell, str) else "\n".join(cell)) for cell in row]
        table.add_row(*cells, end_section=ends)
    console = Console()
    console.print(table)
    console.print(f"{len(found)} rows", style="dim", highlight=False)


PROGRAM = Action(ListConfig, list_registered, positional="what", usage="[models | datasets | strategies]")
