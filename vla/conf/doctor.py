"""`DoctorConfig`: how `vla doctor` examines the machine."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require_positive


@dataclass(frozen=True)
class DoctorConfig:
    """Examine the machine: what works, what doesn't, and what to do about it.

    The exit code is 1 if something needed is broken. Takes some seconds, needs no network, and writes nothing but a
    file of 64 MiB that it removes again.
    """

    folder: Path = Path("runs")  # whose disk is measured: where runs are written
    network: bool = True  # ask the Hugging Face hub whether it is there
    timeout: float = 3.0  # seconds to wait for it
    json: bool = False  # a JSON object instead of lines

    def __post_init__(self) -> None:
        require_positive(self, "timeout")
