"""`torch.compile` of a model's blocks: the same model with the same names of weights, whose blocks run faster.

Blocks are compiled one by one: those of one kind share what was compiled, which takes seconds where a whole model takes
minutes, and works under DDP, FSDP and gradient checkpointing alike.
"""

import torch
from torch import Tensor

from vla.conf.pretrain import PretrainConfig
from vla.errors import UserError
from vla.models.base import BaseModel


def check_compile(config: PretrainConfig, device: str) -> None:
    """Raise UserError, one line, if `config` asks to compile and torch can't do it here: it is tried out.

    Args:
        config: the run.
        device: where the model will run.
    """
    if not config.stage_config.compile:
        return
    try:
        torch.compile(_probe)(torch.ones(16, device=device))
    except Exception as error:  # of many kinds: no compiler, no Triton, no headers, too old a GPU or too new a Python
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        needs = "Triton" if device.startswith("cuda") else "a C++ compiler"
        raise UserError(
            f"model.{config.stage.field_name}.compile: torch.compile doesn't work here, it needs {needs} ({reason}); "
            "pass false"
        ) from error


def _probe(x: Tensor) -> Tensor:
    return torch.nn.functional.silu(x) * x


def compile_blocks(model: BaseModel) -> None:
    """Compile the blocks of `model` in place, when they first run. Names of parameters stay as they are."""
    for block in model.blocks_to_compile():
        block.compile()
