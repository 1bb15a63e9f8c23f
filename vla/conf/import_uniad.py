"""What is taken over from UniAD's own code: its configuration files and its checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from vla.conf.checks import require


@dataclass(frozen=True)
class UniADConfigImport:
    """Write a configuration file of UniAD's as one for scripts/pretrain.py."""

    input: Path | None = None  # UniAD's experiments/*/config.yaml
    output: Path | None = None  # file to write

    def __post_init__(self) -> None:
        require("input", self.input is not None, "must name a configuration file of UniAD's", self.input)
        require("output", self.output is not None, "must name a file to write", self.output)


@dataclass(frozen=True)
class UniADCheckpointImport:
    """Write a checkpoint of UniAD's as a checkpoint folder, for scripts/evaluate.py and to go on training from."""

    input: Path | None = None  # UniAD's ckpt.pth.tar; nothing in it is executed
    config: Path | None = None  # configuration of this toolkit; none: the published one for MVTec-AD
    output: Path | None = None  # folder to write

    def __post_init__(self) -> None:
        require("input", self.input is not None, "must name a checkpoint of UniAD's", self.input)
        require("output", self.output is not None, "must name a folder to write", self.output)
