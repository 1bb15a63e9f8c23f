"""What the dataclasses say about themselves: docstrings, and the comment behind each field. Read for --help only."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Any


def summary(config_class: Any) -> str:
    """The first line of a class's docstring, without its full stop."""
    doc = config_class.__doc__ or ""
    if doc.startswith(f"{config_class.__name__}("):  # what dataclass writes when there is none
        return ""
    return doc.strip().partition("\n")[0].rstrip(".")


def field_comments(config_class: Any) -> dict[str, str]:
    """The comment behind each field; a field that is overridden without one keeps that of its parent class."""
    comments: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if "__dataclass_fields__" in vars(base):
            comments |= _module_comments(base.__module__).get(base.__qualname__, {})
    return comments


@cache
def _module_comments(module: str) -> dict[str, dict[str, str]]:
    """Comments by class and field of a module; empty where its source can't be read (a zip file, a REPL)."""
    path = getattr(sys.modules.get(module), "__file__", None)
    try:
        source = Path(path or "").read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return {}
    lines = source.splitlines()
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            names = [item.target.id if isinstance(item.target, ast.Name) else "" for item in fields]
            texts = [_comment(lines, item.end_lineno or item.lineno, item.end_col_offset or 0) for item in fields]
            found[node.name] = {name: text for name, text in zip(names, texts, strict=True) if text}
    return found


def _comment(lines: list[str], line: int, column: int) -> str:
    """The comment that starts at the end of a statement, and goes on in lines that hold a comment only."""
    tail = lines[line - 1].encode()[column:].decode().strip()
    if not tail.startswith("#"):
        return ""
    parts = [tail]
    while line < len(lines) and lines[line].lstrip().startswith("# ") and lines[line].index("#") > 8:
        parts.append(lines[line].strip())
        line += 1
    words = " ".join(part.lstrip("# ") for part in parts)
    return "" if words.startswith(("fmt:", "noqa", "type:")) else words
