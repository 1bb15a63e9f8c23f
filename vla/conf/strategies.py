"""Training strategies: how one model is spread over processes."""

from dataclasses import dataclass
from enum import Enum, unique
from typing import ClassVar

import draccus

from vla.conf.checks import require_choice, require_positive
from vla.conf.registry import register_enum


@dataclass(frozen=True)
class StrategyConfig(draccus.ChoiceRegistry):
    """Base of all strategies. `target` is the class that implements it; it is never read from a file."""

    strategy_id: ClassVar[str] = ""
    target: ClassVar[str] = ""
    description: ClassVar[str] = ""

    @classmethod
    def default_choice_name(cls) -> str | None:
        """What it is when a file or the command line sets fields of it without naming its type."""
        return "ddp"


@dataclass(frozen=True)
class DDPConfig(StrategyConfig):
    """A full copy of the model in every process; one process needs no launcher."""

    strategy_id: ClassVar[str] = "ddp"
    target: ClassVar[str] = "vla.training.strategies.ddp:DDPStrategy"
    description: ClassVar[str] = "replicated parameters, gradients averaged once per optimizer step"

    find_unused_parameters: bool = False  # for models that leave trainable parameters unused and don't say so
    bucket_cap_mb: int = 25  # megabytes of gradients that are sent together

    def __post_init__(self) -> None:
        require_positive(self, "bucket_cap_mb")


@dataclass(frozen=True)
class FSDPFullShardConfig(StrategyConfig):
    """FSDP2: parameters, gradients and optimizer states sharded; parameters gathered anew for the backward pass."""

    strategy_id: ClassVar[str] = "fsdp-full-shard"
    target: ClassVar[str] = "vla.training.strategies.fsdp:FSDPStrategy"
    description: ClassVar[str] = "FSDP2, parameters re-sharded after the forward pass (ZeRO-3)"

    reshard_after_forward: bool = True  # false: keep gathered parameters for the backward pass
    reduce_dtype: str = "fp32"  # fp32 | bf16: data type of the gradient reduction
    cpu_offload: bool = False  # keep shards in main memory

    def __post_init__(self) -> None:
        require_choice(self, "reduce_dtype", ("fp32", "bf16"))


@dataclass(frozen=True)
class FSDPShardGradOpConfig(FSDPFullShardConfig):
    """FSDP2 that keeps gathered parameters between forward and backward: less communication, more memory."""

    strategy_id: ClassVar[str] = "fsdp-shard-grad-op"
    description: ClassVar[str] = "FSDP2, parameters kept between forward and backward pass (ZeRO-2)"

    reshard_after_forward: bool = False


@unique
class StrategyRegistry(Enum):
    """Strategies that come with the toolkit; packages add more by the entry-point group `vla.strategies`."""

    DDP = DDPConfig
    FSDP_FULL_SHARD = FSDPFullShardConfig
    FSDP_SHARD_GRAD_OP = FSDPShardGradOpConfig

    @property
    def strategy_id(self) -> str:
        """The name that users write as the strategy's type."""
        return self.value.strategy_id


register_enum(StrategyConfig, StrategyRegistry, "strategy_id")
