"""Variants of LIBERO's tasks: the same scene with another target, so that the scene does not imply the instruction."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vla.errors import UserError
from vla.evaluation.simulator.runtime import LiberoTask

# Suites with variants, each with what the names of its scenes begin with (LIBERO-90's are such as KITCHEN_SCENE4).
SCENES = {"libero_object": "OBJECT", "libero_spatial": "SPATIAL"}
_PREDICATE = re.compile(r"\(\s*(\w+)\s+(\w+)\s+(\w+)\s*\)")


@dataclass(frozen=True)
class Problem:
    """What a BDDL file says that matters here.

    Attributes:
        text: all of it.
        target: the object that its goal moves.
        place: object or region that the goal moves it to or into.
        starts: object -> (relation, object or region) at the start, in the order of the file.
    """

    text: str
    target: str
    place: str
    starts: dict[str, tuple[str, str]]


def other_targets(task: LiberoTask, tasks: Sequence[LiberoTask], folder: Path) -> list[LiberoTask]:
    """Write a BDDL file for each other target in a task's scene, and return them as tasks.

    A target of libero_object is an object, one of libero_spatial the place where a bowl stands. Another target in the
    scene is one that another task of the suite has; the variant takes over that task's instruction.

    Args:
        task: whose scene it is.
        tasks: all tasks of the suite.
        folder: for the BDDL files; made if it is not there.

    Returns:
        The variants in the order of the tasks whose instruction they have; their `variant_of` is `task.name`.

    Raises:
        UserError: the suite has no variants.
    """
    if task.suite not in SCENES:
        raise UserError(f"other_targets: are known of {' and '.join(SCENES)} only, got {task.suite}")
    owners = {}
    for other in tasks:
        problem = read_problem(other.bddl_file.read_text())
        owners[_kind(task.suite, problem, problem.target)] = other
    scene = read_problem(task.bddl_file.read_text())
    found = [(owners.get(_kind(task.suite, scene, name)), name) for name in scene.starts if name != scene.target]
    variants = []
    for owner, name in sorted(((o, n) for o, n in found if o is not None), key=lambda pair: pair[0].index):
        title = f"{SCENES[task.suite]}_SCENE{task.index}_{owner.name}"
        path = folder / f"{title}.bddl"
        _write(path, with_target(scene, name, owner.language))
        variants.append(LiberoTask(task.suite, task.index, title, owner.language, path, task.name, owner.index))
    return variants


def read_problem(text: str) -> Problem:
    """Read the parts of a BDDL file that decide its target.

    Raises:
        ValueError: the goal is not a single predicate about an object and a place.
    """
    init, goal = (_PREDICATE.findall(text[slice(*_section(text, name))]) for name in ("init", "goal"))
    if len(goal) != 1:
        raise ValueError(f"a goal of one predicate is needed, got {len(goal)}")
    return Problem(text, goal[0][1], goal[0][2], {name: (relation, place) for relation, name, place in init})


def with_target(problem: Problem, target: str, language: str) -> str:
    """The BDDL text with another target: its goal, objects of interest and language replaced, all else as it is."""
    text = problem.text
    for name in ("goal", "obj_of_interest"):
        start, end = _section(text, name)
        text = text[:start] + re.sub(rf"\b{re.escape(problem.target)}\b", target, text[start:end]) + text[end:]
    start, end = _section(text, "language")
    return f"{text[:start]}(:language {language}){text[end:]}"


def _kind(suite: str, problem: Problem, name: str) -> tuple[str, ...]:
    """What an instruction of the suite calls an object by: its name, or where it starts."""
    return (name,) if suite == "libero_object" else (re.sub(r"_\d+$", "", name), *problem.starts[name])


def _section(text: str, name: str) -> tuple[int, int]:
    """Where `(:name ...)` begins and ends in a BDDL text."""
    match = re.search(rf"\(\s*:{name}\b", text)
    if match is None:
        raise ValueError(f"no section :{name}")
    depth = 0
    for end in range(match.start(), len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return match.start(), end + 1
    raise ValueError(f"section :{name} does not end")


def _write(path: Path, text: str) -> None:
    """Write a file that is never seen half written; the processes of another recording may be reading it."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.writing")
    beside.write_text(text)
    beside.replace(path)
