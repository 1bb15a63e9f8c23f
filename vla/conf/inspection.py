"""`InspectConfig`: how `vla data doctor` examines a dataset."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require, require_positive


@dataclass(frozen=True)
class InspectConfig:
    """Examine demonstrations in LIBERO's layout, LeRobot's or RLDS: what is in them, what is wrong, and what to do.

    Nothing in the data is changed. The exit code is 1 if something in it can't be used.
    """

    path: Path | None = None  # a folder with *.hdf5 (searched in sub-folders too) or one such file; LeRobot's; RLDS
    output: Path | None = None  # the contact sheet, a PNG; none: <name of path>-contact-sheet.png here
    episodes: int = 32  # whose pictures are read, spread evenly; numbers are read of all
    action_keys: tuple[str, ...] = ()  # of LeRobot's layout or RLDS, the gripper last; empty: `action`
    state_keys: tuple[str, ...] = ()  # likewise; empty: `state`, if there is one
    instruction_key: str | None = None  # likewise; none: what the layout calls so
    json: bool = False  # a JSON object instead of lines

    def __post_init__(self) -> None:
        require("path", self.path is not None, "must name a folder or file with demonstrations", self.path)
        require_positive(self, "episodes")
