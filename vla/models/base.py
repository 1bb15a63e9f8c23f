"""The contract that every model meets, whatever it is made of."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vla.batches import Batch


@dataclass
class ModelOutput:
    """What a forward pass gives to its task. Concrete models return subclasses."""

    logs: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureSource:
    """What a module group computes from a batch when it is frozen, so that it can be computed once and kept."""

    keys: Callable[[Any], list[Hashable]]  # batch -> one key per sample; equal keys have equal features
    compute: Callable[[Any], dict[str, Tensor]]  # batch -> features, each [B, ...]; no gradient is recorded
    settings: str | None = None  # what features depend on besides weights and images; None: they are not of a sample
    sees_images: bool = True  # whether `compute` looks at the batch's images


class BaseModel(nn.Module):
    """Base of all models. A model knows no rank, no optimizer and no dataset.

    `get_model` calls the class with its configuration; also with `weights=` what `find_weights` gave, if that is
    anything, and with `assets=` a folder that `save_assets` wrote, if there is one.
    """

    may_skip_parameters = False  # whether there are batches that leave some trainable parameters unused

    def __init__(self) -> None:
        super().__init__()
        self.frozen_groups: frozenset[str] = frozenset()
        self.frozen_parameters: frozenset[str] = frozenset()  # names that no stage trains: adapters do in their place

    @classmethod
    def find_weights(cls, config: Any) -> dict[str, str]:
        """Where pretrained weights are, by module group; nothing is built or read yet.

        Raises:
            WeightsNotFound: They can't be had (`vla.models.weights_source`).
        """
        return {}

    def save_assets(self, folder: Path) -> None:
        """Write what a checkpoint needs besides tensors to rebuild the model without its pretrained weights."""

    def module_groups(self) -> dict[str, nn.Module]:
        """Module groups by name. Together they hold every parameter, each exactly once."""
        raise NotImplementedError

    def module_parts(self) -> dict[str, frozenset[str]]:
        """Parts of module groups that a stage can train alone, as "<group>.<part>": names of their parameters."""
        return {}

    def unused_parameters(self) -> frozenset[str]:
        """Names of parameters that no forward pass uses; no stage trains them, since they would have no gradient."""
        return frozenset()

    def parameters_beside_adapters(self) -> frozenset[str]:
        """Names of parameters that train themselves where adapters (LoRA) train the rest of their group: new ones."""
        return frozenset()

    def fsdp_units(self) -> list[nn.Module]:
        """Modules that FSDP shards one by one, inner before outer; the root is not among them."""
        raise NotImplementedError

    def blocks_to_compile(self) -> list[nn.Module]:
        """Modules that `torch.compile` compiles one by one; called once, before they are."""
        return self.fsdp_units()

    def feature_sources(self) -> dict[str, FeatureSource]:
        """By module group, what can be cached while that group is frozen; its features go to `batch.features`."""
        return {}

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute activations of the large blocks in the backward pass."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> ModelOutput:
        """What the task's loss is made of; features in `batch.features` stand for what frozen groups would compute."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "BaseModel":
        """Like `nn.Module.train`, but frozen groups stay in evaluation mode."""
        super().train(mode)
        for name, module in self.module_groups().items():
            if name in self.frozen_groups:
                module.eval()
        return self
