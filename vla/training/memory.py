"""Memory of a training step: what autograd keeps for the backward pass, counted; and what each strategy needs.

Counting works on real tensors and on fake ones (`torch._subclasses.FakeTensorMode`: shapes and types without memory),
since both go through the same kernels' bookkeeping: a plan of a model that fits no machine here is exact in its count.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.hooks import RemovableHandle

from vla.conf.stage import OptimizerConfig, StageConfig
from vla.conf.strategies import FSDPFullShardConfig
from vla.models.base import BaseModel
from vla.training.precision import DTYPES, autocast_context


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the values of `tensors`."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass
class _Unit:
    """One block of the model: the bytes of its inputs, and of what is kept inside it."""

    inputs: int = 0
    inside: int = 0


@dataclass
class SavedTensors:
    """Storages that autograd keeps for the backward pass, each counted once; parameters are none of them."""

    parameters: set[int]  # storages
    copies: int = 0  # bytes of parameters that autocast has converted; they live until the forward pass is over
    storages: dict[int, tuple[int, Tensor]] = field(default_factory=dict)  # the tensor keeps its storage's number taken
    units: dict[nn.Module, _Unit] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes kept when nothing is recomputed, without `copies`."""
        return sum(size for size, _ in self.storages.values())

    @property
    def checkpointed(self) -> int:
        """Bytes when every block keeps its inputs and recomputes the rest, one block at a time."""
        units = [unit for unit in self.units.values() if unit.inside]
        if not units:
            return self.total
        inside = sum(unit.inside for unit in units)
        return self.total - inside + sum(unit.inputs for unit in units) + max(unit.inside for unit in units)

    def pack(self, tensor: Tensor) -> Tensor:
        """Hook of autograd: `tensor` is kept."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.parameters and key not in self.storages:
            is_copy = _is_converted_parameter(tensor)
            self.copies += storage.nbytes() if is_copy else 0
            self.storages[key] = (0 if is_copy else storage.nbytes(), tensor)
        return tensor


def _is_converted_parameter(tensor: Tensor) -> bool:
    """Whether `tensor` is a parameter in another data type, perhaps transposed: what autocast makes of it."""
    node = tensor.grad_fn
    for _ in range(3):
        if node is None or len(node.next_functions) != 1:
            return False
        if node.name() == "ToCopyBackward0":
            return hasattr(node.next_functions[0][0], "variable")
        node = node.next_functions[0][0]
    return False


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _watch(unit: nn.Module, saved: SavedTensors) -> list[RemovableHandle]:
    before: list[int] = []

    def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
        before.append(saved.total)
        inputs = tensor_bytes(tensor for tensor in _tensors((args, kwargs)) if tensor.is_floating_point())
        saved.units.setdefault(module, _Unit()).inputs += inputs

    def leave(module: nn.Module, args: tuple, output: Any) -> None:
        saved.units[module].inside += saved.total - before.pop()

    return [unit.register_forward_pre_hook(enter, with_kwargs=True), unit.register_forward_hook(leave)]


@contextmanager
def count_saved_tensors(model: nn.Module, units: Iterable[nn.Module] = ()) -> Iterator[SavedTensors]:
    """Count what autograd keeps in the forward passes of the `with` block, also by `units` (blocks of the model)."""
    saved = SavedTensors({parameter.untyped_storage()._cdata for parameter in model.parameters()})
    handles = [handle for unit in units for handle in _watch(unit, saved)]
    try:
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            yield saved
    finally:
        for handle in handles:
            handle.remove()


def to_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Replace the parameters and buffers of `model` by fake tensors of `mode` on the CPU. Shared ones stay shared."""
    made: dict[int, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
            is_parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
        return made[id(tensor)]

    with mode:
        for module in model.modules():
            tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
            for table in tables:
                for name, tensor in table.items():
                    if tensor is not None:
                        table[name] = fake(tensor)


@dataclass(frozen=True)
class Activations:
    """Bytes that one forward pass needs beside the parameters."""

    kept: int  # for the backward pass
    copies: int  # parameters in the data type of autocast


def count_activations(model: BaseModel, run: Callable[[], Any], stage: StageConfig) -> Activations:
    """Count for one forward pass, `run`, at the stage's precision and with what it recomputes."""
    with autocast_context(stage.precision, "cpu"), count_saved_tensors(model, model.fsdp_units()) as saved:
        output = run()
    del output
    return Activations(saved.checkpointed if stage.gradient_checkpointing else saved.total, saved.copies)


def optimizer_state_bytes(model: nn.Module, optimizer: OptimizerConfig) -> int:
    """Bytes of the optimizer's states for the parameters that train."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if optimizer.name == "adamw":
        return 2 * tensor_bytes(trained) + 4 * len(trained)  # two moments each, and the step count
    return tensor_bytes(trained) if optimizer.momentum else 0


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes per device, by what they are for. `activations` is None when they couldn't be counted."""

    weights: int
    gradients: int
    optimizer: int
    copies: int  # FSDP: whole parameters of the blocks at work; else: parameters in the data type of autocast
    activations: int | None

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.copies + (self.activations or 0)


def _unit_bytes(model: BaseModel, bytes_per_value: int) -> list[int]:
    """Bytes of each block's whole parameters in the compute data type, the rest of the model as one more block."""
    seen: set[int] = set()
    sizes = []
    for module in (*model.fsdp_units(), model):
        own = [parameter for parameter in module.parameters() if id(parameter) not in seen]
        seen.update(id(parameter) for parameter in own)
        sizes.append(sum(parameter.numel() for parameter in own) * bytes_per_value)
    return sizes


def estimate_memory(
    model: BaseModel, stage: StageConfig, world_size: int, activations: Activations | None
) -> MemoryEstimate:
    """Bytes per device for the stage's strategy over `world_size` processes."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = tensor_bytes(model.parameters()) + tensor_bytes(model.buffers())
    gradients, optimizer = tensor_bytes(trained), optimizer_state_bytes(model, stage.optimizer)
    kept = None if activations is None else activations.kept
    strategy = stage.strategy
    if not isinstance(strategy, FSDPFullShardConfig):
        return MemoryEstimate(weights, gradients, optimizer, activations.copies if activations else 0, kept)
    units = _unit_bytes(model, DTYPES[stage.precision].itemsize)
    # The last unit is the root, which stays gathered; of the others the current one and the next, fetched ahead.
    gathered = units[-1] + sum(sorted(units[:-1])[-2:]) if strategy.reshard_after_forward else sum(units)
    sharded = [-(-size // world_size) for size in (weights, gradients, optimizer)]
    if strategy.cpu_offload:
        sharded = [0, 0, 0]
    if stage.grad_accumulation_steps(world_size) > 1:  # not reduced, so not sharded, before the last micro-batch
        sharded[1] = sum(parameter.numel() for parameter in trained) * DTYPES[strategy.reduce_dtype].itemsize
    return MemoryEstimate(sharded[0], sharded[1], sharded[2], gathered, kept)
