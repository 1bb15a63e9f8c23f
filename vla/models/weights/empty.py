"""Modules without memory for their parameters, to be filled with tensors that lie in a file."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules that are made inside get their parameters on `meta`, and buffers as usual.

    Unlike under `torch.device("meta")`, buffers that no file holds (rotary positions) are computed. Fill the parameters
    with `load_state_dict(tensors, assign=True)`.
    """
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            param = nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(module, name, param)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
