"""`--help`: the choices first, then the flags of what the command line has chosen, with their present values."""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from draccus.utils import is_choice_type

from vla.conf import plugins
from vla.conf.comments import field_comments, summary
from vla.conf.help_layout import Layout
from vla.conf.merging import REQUIRED, TYPE, field_types, is_open_choice, join
from vla.conf.models import ModelConfig
from vla.conf.reading import strip_optional
from vla.conf.stage import Stage

_KINDS = {bool: "true|false", int: "int", float: "number", str: "text", Path: "path"}
_VALUE_WIDTH = 24
_LARGE_FAMILY = 12  # members that are listed line by line although another family is chosen
_CLOSING = (
    "* is what the command line has chosen; choose otherwise, and --help shows the flags of that.",
    "Each flag stands with its type (?: or none; [...]: a list, as in --trackers jsonl,tensorboard) and present value.",
    "Every field can stand in a YAML file, nested as its flag is dotted (--config_path FILE); flags take precedence.",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One flag."""

    flag: str
    kind: str
    value: str
    comment: str


@dataclasses.dataclass
class Section:
    """Flags of one group of fields, or the members of one choice."""

    title: str
    about: str = ""
    rows: list[Row] = dataclasses.field(default_factory=list)
    choices: list[tuple[str, bool, str]] = dataclasses.field(default_factory=list)  # name, whether chosen, about


def print_help(config_class: Any, tree: dict[str, Any], notes: list[str], program: str | None = None) -> None:
    """Print the help of a configuration.

    Args:
        config_class: its dataclass.
        tree: what the command line stands for so far, as `Merger` builds it; it need not be valid.
        notes: lines to close with, such as what was wrong with the command line.
        program: name for the usage line; None: that of this process.
    """
    notes = [*plugins.load_all(), *notes]
    layout = Layout()
    lines = [f"usage: {program or Path(sys.argv[0]).name} [--config_path FILE] [--FIELD VALUE ...]", ""]
    lines += layout.paragraph(f"{summary(config_class)}.")
    for section in sections(config_class, tree):
        lines += ["", *_lines(layout, section)]
    lines.append("")
    for line in _CLOSING:
        lines += layout.paragraph(line, "dim")
    lines += [layout.paint(f"note: {note}", "note") for note in notes]
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def sections(config_class: Any, tree: dict[str, Any]) -> list[Section]:
    """All sections of the help, in order."""
    stage = _chosen_stage(config_class, tree)
    groups = list(_groups(config_class, tree, "", "", stage))
    # The stage's hyper-parameters are what is changed most: they follow the run's own fields.
    order = sorted(range(len(groups)), key=lambda i: (i > 0, not groups[i][1]))
    return [*_choices(config_class, tree, stage), *(groups[i][0] for i in order)]


def _chosen_stage(config_class: Any, tree: dict[str, Any]) -> Stage | None:
    return next((Stage(tree[name]) for name, hint in field_types(config_class).items() if hint is Stage), None)


def inside(hint: Any, value: Any) -> tuple[Any, str] | None:
    """The class of a nested group of fields and its id, if it has one; None for other values."""
    if not isinstance(hint, type) or not dataclasses.is_dataclass(hint) or not isinstance(value, dict):
        return None
    if is_choice_type(hint) and is_open_choice(hint):
        return plugins.find_choice(hint, value[TYPE], TYPE), value[TYPE]
    return hint, ""


def _choices(config_class: Any, tree: dict[str, Any], stage: Stage | None) -> Iterator[Section]:
    """Every choice that is open, with one line about each member."""
    for path, hint, value in fields(config_class, tree):
        if is_choice_type(hint) and is_open_choice(hint):
            chosen = value[TYPE] if value is not None else None
            yield Section(f"--{path}.{TYPE}", choices=list(_members(hint, chosen)))
        elif hint is Stage:
            model = tree.get("model") or {}
            trained = [", ".join(model.get(item.field_name, {}).get("trainable", ())) for item in Stage]
            rows = [
                (item.value, item.value == value, f"trains {groups}" if groups else "")
                for item, groups in zip(Stage, trained, strict=True)
            ]
            yield Section(f"--{path}", choices=rows)


def _members(hint: Any, chosen: str | None) -> Iterator[tuple[str, bool, str]]:
    """A row for each member of a choice; a large family of which none is chosen has one row for all."""
    known = hint.get_known_choices()
    families: dict[str, list[str]] = {}
    for name in plugins.choice_names(hint):
        families.setdefault(_family(known, name), []).append(name)
    chosen_family = _family(known, chosen)
    for family, names in families.items():
        if family and family != chosen_family and len(names) > _LARGE_FAMILY:
            yield f"{family}, {len(names)}", False, f"{', '.join(names)} (with one of them, --help says what each is)"
            continue
        for name in names:
            yield name, name == chosen, about(known[name]) if name in known else "does not load, see the end"


def _family(known: dict[str, Any], name: str | None) -> str:
    """The published system that a choice belongs to, if it says so."""
    return getattr(known.get(name or ""), "system", "")


def fields(config_class: Any, tree: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Path, type and value of every field, top level first, without those of stages that are not chosen."""
    yield from _fields(config_class, tree, "", _chosen_stage(config_class, tree))


def _fields(config_class: Any, tree: dict[str, Any], path: str, stage: Stage | None) -> Iterator[tuple[str, Any, Any]]:
    """Path, type and value of every field, top level first, without those of other stages."""
    inner = []
    for name, hint in field_types(config_class).items():
        hint, _ = strip_optional(hint)
        if _is_other_stage(config_class, name, stage):
            continue
        yield join(path, name), hint, tree[name]
        group = inside(hint, tree[name])
        if group is not None:
            inner.append((group[0], tree[name], join(path, name)))
    for group_class, group_tree, group_path in inner:
        yield from _fields(group_class, group_tree, group_path, stage)


def about(choice: Any) -> str:
    """One line about a registered class: its `description` if it has one, else of its docstring."""
    return getattr(choice, "description", "") or summary(choice)


def _is_other_stage(config_class: Any, name: str, stage: Stage | None) -> bool:
    return issubclass(config_class, ModelConfig) and name in {item.field_name for item in Stage if item != stage}


def _groups(
    config_class: Any, tree: dict[str, Any], path: str, name: str, stage: Stage | None
) -> Iterator[tuple[Section, bool]]:
    """A section for each group of fields, and whether it is of the chosen stage."""
    comments = field_comments(config_class)
    section = Section(f"--{path}.*" if path else "Run", about(config_class) if path else "")
    nested, hidden = [], []
    for key, hint in field_types(config_class).items():
        inner = inside(strip_optional(hint)[0], tree[key])
        if _is_other_stage(config_class, key, stage):
            hidden.append(f"--{join(path, key)}.*")
        elif inner is not None:
            nested.append((*inner, key))
        elif hint is not Stage:  # it stands among the choices
            section.rows.append(Row(f"--{join(path, key)}", kind(hint), show(tree[key]), comments.get(key, "")))
    if name:
        section.about = f"{name}: {section.about}"
    if hidden:
        section.about += f" (other stages: {', '.join(hidden)})"
    if section.rows or not path:
        yield section, stage is not None and f".{stage.field_name}" in path
    for inner_class, inner_name, key in nested:
        yield from _groups(inner_class, tree[key], join(path, key), inner_name, stage)


def kind(hint: Any) -> str:
    """A short name for a field's type."""
    hint, optional = strip_optional(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict:
        name = f"{{name: {kind(arguments[1])}}}"
    elif origin in (tuple, list, set, frozenset):
        repeated = len(arguments) == 1 or arguments[-1] is Ellipsis
        name = f"[{kind(arguments[0])}...]" if repeated else f"[{', '.join(kind(item) for item in arguments)}]"
    elif origin is typing.Literal:
        name = "|".join(str(item) for item in arguments)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        name = "|".join(str(item.value) for item in hint)
    else:
        name = _KINDS.get(hint, getattr(hint, "__name__", "value"))
    return name + ("?" if optional else "")


def show(plain: Any) -> str:
    """A plain value as it can be typed after its flag."""
    if plain is REQUIRED:
        return "(required)"
    if isinstance(plain, bool) or plain is None:
        return "none" if plain is None else str(plain).lower()
    if isinstance(plain, list):
        return "[" + ", ".join(show(item) for item in plain) + "]"
    if isinstance(plain, dict):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in plain.items()) + "}"
    if isinstance(plain, str) and plain.startswith(f"{Path.cwd()}{os.sep}"):
        return str(Path(plain).relative_to(Path.cwd()))
    return f"{plain:g}" if isinstance(plain, float) else str(plain)


def _lines(layout: Layout, section: Section) -> Iterator[str]:
    title, *more = layout.paragraph(f"{section.title}  {section.about}" if section.about else section.title)
    yield layout.paint(section.title, "title") + title.removeprefix(section.title)
    yield from more
    choices = [
        [("*" if chosen else " ", ""), (name, "chosen" if chosen else ""), (text, "")]
        for name, chosen, text in section.choices
    ]
    yield from layout.columns(choices, (1, 0))
    rows = [
        [(" ", ""), (f"{row.flag} {row.kind}", ""), (row.value, "value"), (row.comment, "")] for row in section.rows
    ]
    yield from layout.columns(rows, (1, 0, _VALUE_WIDTH))
