"""What the readers of LeRobot's layout and of RLDS give alike: fields, episodes as they are stored, their frames."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla.batches import check_instruction
from vla.conf.registry import suggest
from vla.data.datasets.episodes import FrameSource
from vla.data.errors import BadEpisode
from vla.errors import UserError


@dataclass(frozen=True)
class Fields:
    """What a dataset says that it has, in its own order and by its own keys."""

    images: dict[str, tuple[int, int] | None]  # key of a camera -> height and width; None: not said
    numbers: dict[str, tuple[str, ...]]  # key of a vector or number per step -> names of its dimensions
    texts: tuple[str, ...]  # keys of instructions, in words or by number
    fps: float | None = None


@dataclass(frozen=True)
class Keys:
    """Which fields are read."""

    cameras: tuple[str, ...]
    actions: tuple[str, ...]
    states: tuple[str, ...]  # may be empty
    instruction: str


@dataclass(frozen=True, eq=False)
class StoredEpisode:
    """An episode as its files have it, whatever it is worth. T steps."""

    file: str  # path below the dataset's root
    name: str
    actions: NDArray[np.float32]  # [T, A], the values of all action keys
    states: NDArray[np.float32] | None  # [T, P]
    texts: list[tuple[int, str]]  # the first step that an instruction is for, and the instruction
    shapes: dict[str, tuple[int, int]]  # key of a camera -> height and width of its pictures
    content: bytes  # says which frames these are; others have another one
    attributes: dict[str, str] = field(default_factory=dict)  # what else the files say about it, for people


class RobotFiles(Protocol):
    """An opened dataset."""

    layout: str  # for people: "LeRobot v2.1"
    root: Path
    fields: Fields
    claims: list[str]  # what its description says and its files don't bear out, a line each; full once all was read

    def episodes(self, keys: Keys, split: str | None = None) -> Iterator[StoredEpisode | BadEpisode]:
        """Every episode in order, or what is wrong with it; `split` is of RLDS.

        Raises:
            UserError: there is no such split.
        """
        ...

    def frames(self, cameras: dict[str, str], cache_bytes: int) -> FrameSource:
        """Reads frames of the episodes that `episodes` gave; `cameras` is key by the name that a reader asks for."""
        ...


def choose_key(asked: str, known: list[str], field_name: str) -> str:
    """The one of `known` that `asked` is, or is the end of: "wrist" for "observation.images.wrist".

    Raises:
        UserError: there is none, or more than one.
    """
    if asked in known:
        return asked
    ends = [key for key in known if key.endswith((f".{asked}", f"/{asked}"))]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise UserError(f"{field_name}: '{asked}' may be {' or '.join(ends)}: name one in full")
    raise UserError(f"{field_name}: no '{asked}'; there are {', '.join(known) or 'none'}{suggest(asked, known)}")


def default_keys(known: list[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """The first of `names` that is a key or the end of one, as a tuple; empty if there is none."""
    for name in names:
        found = [key for key in known if key == name or key.endswith((f".{name}", f"/{name}"))]
        if len(found) == 1:
            return (found[0],)
    return ()


def stretches(codes: NDArray) -> NDArray[np.int64]:
    """First steps of the stretches of equal values in `codes` [T], T > 0."""
    return np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])


def clean_text(text: str) -> str:
    """An instruction on one line.

    Raises:
        ValueError: it is too long, or empty.
    """
    words = " ".join(check_instruction(text).split())
    if not words:
        raise ValueError("no instruction: its text is empty")
    return words


def as_columns(values: NDArray, steps: int, key: str) -> NDArray[np.float32]:
    """Values of a field as float32 [T, D].

    Raises:
        ValueError: it has no value for each step.
    """
    if values.dtype.kind not in "fiub":
        raise ValueError(f"'{key}' must be numbers, got {values.dtype}")
    if steps == 0 or values.size % steps or len(values) == 0:
        raise ValueError(f"'{key}' has {values.size} values for {steps} steps")
    return values.reshape(steps, -1).astype(np.float32)
