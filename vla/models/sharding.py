"""What a model asks about the processes that it may be spread over, without knowing which of them it is in."""

import torch
from torch import nn


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP shards the module: processes then have to call it equally often, whatever is in their batches."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(part, FSDPModule) for part in module.modules())


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds in any process; all of them call this at the same time."""
    value = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return bool(value.item())
