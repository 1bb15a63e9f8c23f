"""Facts of LIBERO's HDF5 layout: names, instructions, and the two alignments of observations.

A file per task, `<task>_demo.hdf5`, holds `data/demo_<i>/{actions [T, 7], obs/<camera>_rgb [T, H, W, 3], obs/ee_pos,
obs/ee_ori, obs/gripper_states, ...}`. Two kinds are about:

* Official files have attributes (`data.attrs["problem_info"]` is JSON with the instruction). Their observation rows
  were taken *after* the action of the same row.
* Files regenerated without no-ops (OpenVLA) have no attributes at all, demo numbers with gaps, and observations taken
  *before* the action.
"""

import json
import re
from pathlib import Path
from typing import Any

import h5py

ACTION_DIM = 7
CAMERA_SUFFIX = "_rgb"
PROPRIO = {"ee_pos": 3, "ee_ori": 3, "gripper_states": 2}  # keys of obs/ and their dimensions, in this order
ALIGNMENT_ATTRIBUTES = ("obs_alignment", "observation_alignment")
_SCENE = re.compile(r"^[A-Z0-9_]+_SCENE\d+_")
_DEMO = re.compile(r"^demo_\d+$")


def task_name(path: Path) -> str:
    """The file's name without `_demo.hdf5`."""
    return re.sub(r"_?demo$", "", path.stem)


def demo_names(data: h5py.Group) -> list[str]:
    """Names of the demonstrations in order of their numbers (demo_2 before demo_10)."""
    return sorted((name for name in data if _DEMO.match(name)), key=lambda name: int(name[5:]))


def instruction_from_name(name: str) -> str:
    """The instruction that a task's name spells, or "" if it is no sentence.

    >>> instruction_from_name("KITCHEN_SCENE4_close_the_bottom_drawer")
    'close the bottom drawer'
    """
    words = _SCENE.sub("", name).split("_")
    return " ".join(words) if len(words) > 1 and all(words) else ""


def instruction_of(data: h5py.Group, name: str, source: str) -> str:
    """The instruction of a file, or "" if it has none.

    Args:
        data: the file's `data` group.
        name: of the task.
        source: problem_info (else the name) | file_name.
    """
    if source == "problem_info":
        spoken = _attribute_json(data, "problem_info").get("language_instruction", "")
        text = " ".join(map(str, spoken)) if isinstance(spoken, list) else str(spoken)
        text = " ".join(text.replace('"', " ").split())
        if text:
            return text
    return instruction_from_name(name)


def alignment_of(data: h5py.Group, setting: str) -> str:
    """Whether observation rows lie `before` or `after` the action of their row.

    Args:
        data: the file's `data` group.
        setting: before | after, or auto: the file's own attribute if it has one, `before` for a file without any
            attributes (regenerated), otherwise `after` (official).
    """
    if setting != "auto":
        return setting
    for attribute in ALIGNMENT_ATTRIBUTES:
        value = _text(data.attrs.get(attribute, ""))
        if value.startswith(("before", "after")):
            return "before" if value.startswith("before") else "after"
    return "after" if len(data.attrs) else "before"


def _attribute_json(data: h5py.Group, name: str) -> dict[str, Any]:
    try:
        value = json.loads(_text(data.attrs.get(name, "{}")))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
