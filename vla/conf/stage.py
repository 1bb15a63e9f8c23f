"""A training stage: which module groups train, and every hyper-parameter of doing so."""

from dataclasses import dataclass, field
from enum import Enum, unique

from vla.conf.checks import require, require_choice, require_fraction, require_nonnegative, require_positive
from vla.conf.strategies import DDPConfig, StrategyConfig


@unique
class Stage(Enum):
    """Stages of a model's training; the model's config says what each of them trains."""

    ALIGN = "align"
    FINETUNE = "finetune"
    FULL_FINETUNE = "full-finetune"

    @property
    def field_name(self) -> str:
        """Name of the `ModelConfig` field that holds this stage."""
        return self.value.replace("-", "_")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer; learning rate and weight decay are fields of the stage."""

    name: str = "adamw"  # adamw | sgd
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW: decay of the running gradient and of its square
    eps: float = 1e-8  # AdamW: added to the denominator
    momentum: float = 0.9  # SGD
    nesterov: bool = False  # SGD
    decay_norms_and_biases: bool = False  # weight decay on tensors with ndim <= 1 and on biases too

    def __post_init__(self) -> None:
        require_choice(self, "name", ("adamw", "sgd"))
        require("betas", all(0 <= beta < 1 for beta in self.betas), "each must be within [0, 1)", self.betas)
        require_positive(self, "eps")
        require_fraction(self, "momentum")


SCHEDULES = ("cosine", "linear", "constant", "step", "multistep")


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over optimizer steps: a linear warm-up, then `name`."""

    name: str = "cosine"  # cosine | linear | constant | step | multistep
    warmup_steps: int | None = None  # takes precedence over warmup_ratio
    warmup_ratio: float = 0.0  # share of all steps, rounded down
    warmup_rule: str = "step"  # of n steps: step (step / n) | from_zero (0 first even if n = 0) | next_step (nanoVLM's)
    min_lr_ratio: float = 0.0  # floor of cosine and linear, as a share of the base learning rate
    step_size: int = 1000  # step: steps between two decays
    milestones: tuple[int, ...] = ()  # multistep: steps at which the rate decays
    gamma: float = 0.1  # step and multistep: factor of a decay
    unit: str = "steps"  # steps | epochs: what step_size and milestones count

    def __post_init__(self) -> None:
        require_choice(self, "name", SCHEDULES)
        require_choice(self, "warmup_rule", ("step", "from_zero", "next_step"))
        require_choice(self, "unit", ("steps", "epochs"))
        require_nonnegative(self, "warmup_steps")
        require_fraction(self, "warmup_ratio", "min_lr_ratio")
        require_positive(self, "step_size", "gamma")
        require("milestones", list(self.milestones) == sorted(set(self.milestones)), "must increase", self.milestones)


@dataclass(frozen=True)
class StageConfig:
    """One stage of a model's training. `trainable` names module groups; all others are frozen."""

    trainable: tuple[str, ...] = ()  # module groups, or parts of them where the model has named ones
    epochs: int = 1  # passes over the dataset; unused when max_steps is set
    max_steps: int | None = None  # optimizer steps in all
    global_batch_size: int = 32  # samples per optimizer step, over all processes
    per_device_batch_size: int = 8  # samples per forward pass of one process
    learning_rate: float = 1e-4  # its highest value; the schedule multiplies it
    lr_multipliers: dict[str, float] = field(default_factory=dict)  # module group -> factor of learning_rate
    lr_scaling: str = "none"  # none | linear | sqrt: factor of learning_rate by the number of processes
    weight_decay: float = 0.01  # decoupled (AdamW), or L2 (SGD)
    max_grad_norm: float | None = 1.0  # none: gradients are not clipped
    max_nonfinite_steps: int = 5  # a step with a loss or gradient that isn't finite is skipped; so many in a row: stop
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: str = "bf16"  # fp32 | bf16 | fp16 (autocast; fp16 with loss scaling)
    loss_reduction: str = "global"  # global: mean over the global batch | microbatch: mean of micro-batch means
    gradient_checkpointing: bool = False  # recompute activations in the backward pass
    compile: bool = False  # torch.compile of the model's blocks; needs a C++ compiler, and Triton on CUDA
    cache_frozen_features: bool = True  # compute what frozen groups give for an input once, then reuse it
    strategy: StrategyConfig = field(default_factory=DDPConfig)

    def __post_init__(self) -> None:
        require_positive(
            self,
            "epochs",
            "max_steps",
            "global_batch_size",
            "per_device_batch_size",
            "learning_rate",
            "max_grad_norm",
            "max_nonfinite_steps",
        )
        require_nonnegative(self, "weight_decay")
        require_choice(self, "lr_scaling", ("none", "linear", "sqrt"))
        require_choice(self, "precision", ("fp32", "bf16", "fp16"))
        require_choice(self, "loss_reduction", ("global", "microbatch"))
        for group, factor in self.lr_multipliers.items():
            require(f"lr_multipliers.{group}", factor >= 0, "must be >= 0", factor)
        require(
            "global_batch_size",
            self.global_batch_size % self.per_device_batch_size == 0,
            f"must be a multiple of per_device_batch_size ({self.per_device_batch_size})",
            self.global_batch_size,
        )

    @property
    def trained_groups(self) -> frozenset[str]:
        """The module groups of which at least a part trains."""
        return frozenset(name.partition(".")[0] for name in self.trainable)

    def grad_accumulation_steps(self, world_size: int) -> int:
        """Micro-batches of one process per optimizer step.

        Raises:
            ValueError: `global_batch_size` can't be cut evenly over `world_size` processes.
        """
        per_step = self.per_device_batch_size * world_size
        require(
            "global_batch_size",
            self.global_batch_size % per_step == 0,
            f"must be a multiple of per_device_batch_size x processes ({self.per_device_batch_size} x {world_size})",
            self.global_batch_size,
        )
        return self.global_batch_size // per_step
