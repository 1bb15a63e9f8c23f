"""Low-rank adapters: how much of a model is trained through them (arXiv 2106.09685)."""

from dataclasses import dataclass

from vla.conf.checks import require, require_choice, require_fraction, require_nonnegative, require_positive

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class LoRAConfig:
    """Adapters of peft's in the groups that a stage trains; what they adapt is frozen. The defaults are OpenVLA's."""

    rank: int = 0  # of the adapters; 0: none, layers train themselves
    alpha: float | None = None  # scale of adapters is alpha / rank; none: min(rank, 16)
    dropout: float = 0.0  # share of an adapter's inputs set to zero while training
    init: str = "gaussian"  # gaussian | kaiming: how the first of an adapter's two matrices starts
    groups: tuple[str, ...] = ("vision_backbone", "projector", "llm_backbone")  # module groups that get adapters
    targets: tuple[str, ...] = (ALL_LINEAR,)  # ends of linear layers' names, e.g. q_proj,v_proj; all-linear: see below
    rank_stabilised: bool = False  # scale is alpha / sqrt(rank) (rsLoRA)
    dora: bool = False  # magnitudes train by themselves (DoRA)

    # all-linear: every linear layer but the output layer of the language model

    def __post_init__(self) -> None:
        require_nonnegative(self, "rank")
        require_positive(self, "alpha")
        require_fraction(self, "dropout")
        require_choice(self, "init", ("gaussian", "kaiming"))
        require("groups", bool(self.groups), "must name at least one module group", self.groups)
        require("targets", bool(self.targets), "must name at least one kind of layer", self.targets)

    @property
    def resolved_alpha(self) -> float:
        """`alpha`, or the published one."""
        return min(self.rank, 16) if self.alpha is None else self.alpha
