"""`ReportConfig`: which runs `vla report` shows."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require

MOST_RUNS = 12


@dataclass(frozen=True)
class ReportConfig:
    """Compare runs side by side on one page that needs no other file; of one run, write its report anew."""

    runs: tuple[Path, ...] = ()  # run folders
    output: Path | None = None  # the page; none: comparison.html here, or report.html in the one run

    def __post_init__(self) -> None:
        require("runs", 0 < len(self.runs) <= MOST_RUNS, f"must name 1 to {MOST_RUNS} run folders", len(self.runs))
