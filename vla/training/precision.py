"""Numeric precision: autocast contexts, and loss scaling for fp16."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_context(precision: str, device: str) -> AbstractContextManager:
    """Autocast on the device's type to `precision` (fp32 | bf16 | fp16); fp32 changes nothing."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=DTYPES[precision])


class LossScaler:
    """Dynamic loss scaling with the rule and the constants of `torch.amp.GradScaler`.

    torch's own scaler looks for overflow in the gradients that a process holds. With sharded gradients the processes
    would not agree; here the global gradient norm tells, which is the same number everywhere and is computed anyway.
    Disabled, it scales by 1 and takes every step.
    """

    growth_factor = 2.0
    backoff_factor = 0.5
    growth_interval = 2000
    smallest = 2.0**-14  # what still overflows at this scale is not finite by itself

    def __init__(self, enabled: bool, initial_scale: float = 65536.0) -> None:
        self.enabled = enabled
        self.value = initial_scale if enabled else 1.0
        self.good_steps = 0  # without overflow, since the scale changed

    @property
    def may_overflow(self) -> bool:
        """Whether a gradient that is not finite is to be expected, and cured by a smaller scale."""
        return self.enabled and self.value > self.smallest

    def scale(self, loss: Tensor) -> Tensor:
        """`loss` times the scale, to be backpropagated."""
        return loss * self.value if self.enabled else loss

    @torch.no_grad()
    def unscale(self, gradients: Iterable[Tensor]) -> None:
        """Divide gradients by the scale, in place."""
        if self.enabled:
            for gradient in gradients:
                gradient.mul_(1.0 / self.value)

    def update(self, overflow: bool) -> None:
        """Shrink the scale after an overflow, grow it after `growth_interval` steps without one."""
        if not self.enabled:
            return
        self.good_steps = 0 if overflow else self.good_steps + 1
        if overflow:
            self.value *= self.backoff_factor
        elif self.good_steps == self.growth_interval:
            self.value, self.good_steps = self.value * self.growth_factor, 0

    def state_dict(self) -> dict[str, float]:
        """Scale and count, as JSON values."""
        return {"value": self.value, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on where `state_dict` was taken."""
        if self.enabled:
            self.value, self.good_steps = float(state["value"]), int(state["good_steps"])
