"""What can be chosen on the command line. `target` names the class that implements it, imported when a run starts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vla.conf.checks import require_positive
from vla.conf.datasets import SHIPPED_DATA, LiberoConfig
from vla.conf.models.atlas import VGGTTinyConfig
from vla.conf.models.components import ActionHeadConfig, ChunkHeadConfig
from vla.conf.strategies import DDPConfig


@dataclass(frozen=True)
class TabletopTinyConfig(VGGTTinyConfig):
    """VGGT-tiny that predicts four actions at once, with noise on what the robot feels."""

    model_id: ClassVar[str] = "tabletop-tiny"
    target: ClassVar[str] = "tabletop.code:TabletopVLA"

    proprio_noise: float = 0.01  # standard deviation, in normalised units, while training
    action_head: ActionHeadConfig = field(default_factory=lambda: ChunkHeadConfig(chunk_size=4, hidden_dim=64))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "proprio_noise")


@dataclass(frozen=True)
class TabletopConfig(LiberoConfig):
    """The shipped demonstrations without the steps in which nothing moves."""

    dataset_id: ClassVar[str] = "tabletop"

    root: Path | None = SHIPPED_DATA / "libero-mini"
    filter_noops: bool = True


@dataclass(frozen=True)
class VerboseDDPConfig(DDPConfig):
    """DDP that says when an optimizer step is taken."""

    strategy_id: ClassVar[str] = "verbose-ddp"
    target: ClassVar[str] = "tabletop.code:VerboseDDPStrategy"
    description: ClassVar[str] = ""  # the docstring says it
