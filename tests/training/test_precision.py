"""Mixed precision in one process, and loss scaling against torch's."""

import math

import pytest
import torch
from toys import metrics, toy_config, toy_strategy

from vla.training.precision import LossScaler


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_learn(tmp_path, precision):
    config = toy_config(tmp_path / "run", precision=precision)
    strategy = toy_strategy(config)
    strategy.run_training()
    losses = [line["train/loss"] for line in metrics(config.run_dir) if "train/loss" in line]
    assert losses[-1] < 0.6 * losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in strategy.model.parameters())


def test_loss_scaler_follows_torch():
    """The same gradients, some of them overflowing: scale and weights stay those of `torch.amp.GradScaler`."""
    torch.manual_seed(0)
    start, data = torch.randn(4), torch.randn(40, 4)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    scaler, reference = LossScaler(True, 2.0**10), torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7)
    scaler.growth_interval = 7
    optimizers = [torch.optim.SGD([parameter], lr=0.1) for parameter in (ours, theirs)]
    for step, row in enumerate(data):
        loss_factor = 1e38 if step in (3, 20, 21) else 1.0
        for optimizer in optimizers:
            optimizer.zero_grad()
        scaler.scale((ours * row).sum() * loss_factor).backward()
        scaler.unscale([ours.grad])
        finite = math.isfinite(ours.grad.norm())
        if finite:
            optimizers[0].step()
        scaler.update(overflow=not finite)
        reference.scale((theirs * row).sum() * loss_factor).backward()
        reference.step(optimizers[1])
        reference.update()
        assert scaler.value == reference.get_scale()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_overflow_is_skipped_and_counted(tmp_path):
    config = toy_config(tmp_path / "run", precision="fp16")
    strategy = toy_strategy(config)
    strategy.scaler.value = 2.0**40
    strategy.run_training()
    assert strategy.state.overflow_steps > 0 and strategy.scaler.value < 2.0**40
    assert metrics(config.run_dir)[-2]["train/overflow_steps"] == strategy.state.overflow_steps
