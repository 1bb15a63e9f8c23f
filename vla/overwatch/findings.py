"""`Finding`: one thing that an examination found, and what to do about it; shown as lines, or as JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass

STATUSES = ("ok", "note", "warning", "broken")
_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "broken": "bold red"}
_WIDTH = 100  # of the text, where the output is no terminal


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        name: what was looked at, two or three words.
        status: ok | note (good to know) | warning (works, but not as it should) | broken (something needed).
        detail: what was found.
        advice: what to do about it; "" where there is nothing to do.
        section: a heading under which findings stand together.
    """

    name: str
    status: str
    detail: str
    advice: str = ""
    section: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status: must be one of {', '.join(STATUSES)}, got {self.status!r}")


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings there are of each status."""
    return {status: sum(item.status == status for item in findings) for status in STATUSES}


def as_json(findings: Sequence[Finding], **more: object) -> str:
    """All findings as a JSON object, with their counts and `more` beside them."""
    rows = [asdict(item) for item in findings]
    return json.dumps({**more, "counts": counts(findings), "findings": rows}, indent=2, ensure_ascii=False)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a line for each finding, its advice below it, and a sum; with colours on a terminal."""
    width = max((len(item.name) for item in findings), default=0)
    section = None
    lines: list[tuple[str, str]] = []  # text, and a style for its first word
    for item in findings:
        if item.section != section:
            section = item.section
            lines += [("", "")] if lines else []
            lines += [(section, "bold")] if section else []
        lines += _lines(item, width)
    lines += [("", ""), (summary(findings), "")]
    if sys.stdout.isatty():
        _print_styled(lines)
    else:
        print("\n".join(text for text, _ in lines), flush=True)


def summary(findings: Sequence[Finding]) -> str:
    """The sum in one line: `31 checked: 27 ok, 3 to know, 1 warning, nothing needed is broken`."""
    found = counts(findings)
    warnings = f"{found['warning']} warning{'s' * (found['warning'] != 1)}"
    broken = f"{found['broken']} broken" if found["broken"] else "nothing needed is broken"
    return f"{len(findings)} checked: {found['ok']} ok, {found['note']} to know, {warnings}, {broken}"


def _lines(item: Finding, width: int) -> list[tuple[str, str]]:
    margin = 10 + width + 2
    text = textwrap.wrap(item.detail, max(_WIDTH - margin, 30), break_long_words=False, break_on_hyphens=False) or [""]
    lines = [(f"  {item.status:<8}{item.name:<{width}}  {text[0]}", _STYLES[item.status])]
    lines += [(" " * margin + more, "") for more in text[1:]]
    if item.advice:
        advice = textwrap.wrap(
            item.advice, max(_WIDTH - margin - 3, 30), break_long_words=False, break_on_hyphens=False
        )
        lines += [
            (f"{' ' * margin}{'->' if number == 0 else '  '} {more}", "dim") for number, more in enumerate(advice)
        ]
    return lines


def _print_styled(lines: Sequence[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for text, style in lines:
        line = Text(text)
        if style in ("bold", "dim"):
            line.stylize(style)
        elif style:
            start = len(text) - len(text.lstrip())
            line.stylize(style, start, start + len(text.split()[0]))
        console.print(line, soft_wrap=True)
