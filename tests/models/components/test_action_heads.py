"""Every action head: shapes, losses, what they can learn; and the solvers of flow matching."""

import json
import math
from pathlib import Path

import pytest
import torch

from vla.conf.models.components import ActionHeadConfig, ChunkHeadConfig, FlowHeadConfig, PoseGripperHeadConfig
from vla.conf.registry import resolve_target
from vla.models.components.action_heads.base import ActionHead, HeadInput
from vla.models.components.action_heads.flow_matching import draw_noise_and_time, integrate

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "atlas" / "losses.json").read_text())
B, T, D = 3, 5, 16
HEADS = [
    PoseGripperHeadConfig(hidden_dim=32),
    PoseGripperHeadConfig(hidden_dim=32, pose_loss="l2", gripper_loss="bce"),
    ChunkHeadConfig(chunk_size=4, hidden_dim=32, loss="smooth_l1"),
    FlowHeadConfig(chunk_size=4, hidden_dim=32, num_layers=1, num_heads=4),
    FlowHeadConfig(chunk_size=4, hidden_dim=32, num_layers=1, num_heads=4, solver="euler", time_sampling="beta"),
]


def _head(config: ActionHeadConfig, proprio_dim: int | None = None) -> ActionHead:
    return resolve_target(config)(config, D, 7, proprio_dim)


def _inputs(proprio: bool = False, size: int = B) -> HeadInput:
    mask = torch.ones(size, T, dtype=torch.bool)
    mask[-1, 2:] = False
    return HeadInput(torch.randn(size, D), torch.randn(size, T, D), mask, torch.randn(size, 8) if proprio else None)


def _actions(config: ActionHeadConfig, size: int = B) -> torch.Tensor:
    actions = torch.rand(size, config.chunk_size, 7) * 2 - 1
    actions[..., -1] = actions[..., -1].sign()
    return actions


@pytest.mark.parametrize("proprio", [False, True])
@pytest.mark.parametrize("config", HEADS, ids=repr)
def test_shapes_and_gradients(config: ActionHeadConfig, proprio: bool) -> None:
    head = _head(config, 8 if proprio else None)
    inputs, actions = _inputs(proprio), _actions(config)
    loss, logs = head.losses(inputs, actions, torch.arange(B))
    assert loss.shape == (B, config.chunk_size) and loss.dtype == torch.float32
    assert logs and all(value.shape == loss.shape and not value.requires_grad for value in logs.values())
    loss.mean().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert head.predict(inputs).shape == actions.shape


@pytest.mark.parametrize("config", HEADS, ids=repr)
def test_a_head_can_fit_two_samples(config: ActionHeadConfig) -> None:
    head, inputs, actions = _head(config), _inputs(size=2), _actions(config, 2)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    seeds = torch.arange(64)
    repeated = HeadInput(*(value.repeat_interleave(32, dim=0) for value in (inputs.pooled, inputs.tokens)))
    targets = actions.repeat_interleave(32, dim=0)
    for step in range(150):
        optimizer.zero_grad()
        head.losses(repeated, targets, seeds + 64 * step)[0].mean().backward()
        optimizer.step()
    predicted = head.predict(HeadInput(inputs.pooled, inputs.tokens), torch.arange(2))
    assert (predicted - actions).abs().mean() < 0.25


def test_missing_proprio() -> None:
    with pytest.raises(ValueError, match="proprio"):
        _head(HEADS[2], 8).predict(_inputs())


def test_pose_gripper_maps_the_gripper() -> None:
    head = _head(HEADS[0])
    inputs, actions = _inputs(), _actions(HEADS[0])
    pose, gripper = head(inputs)
    assert pose.shape == (B, 6) and gripper.shape == (B, 1) and 0 < gripper.min() and gripper.max() < 1
    torch.testing.assert_close(head.predict(inputs)[:, 0, 6:], 2 * gripper - 1)
    closed = (actions[:, 0, 6:] > 0).float()  # +1 in model space is closed, which is 1 for the head
    _, logs = head.losses(inputs, actions, None)
    torch.testing.assert_close(logs["gripper_loss"], (gripper - closed).abs().detach())
    torch.testing.assert_close(
        logs["action_l1"][:, 0], (head.predict(inputs) - actions).abs().mean(dim=(1, 2)).detach()
    )


def test_published_size() -> None:
    with torch.device("meta"):
        config = PoseGripperHeadConfig()
        head = resolve_target(config)(config, 1024)
    assert sum(parameter.numel() for parameter in head.parameters()) == GOLDEN["param_counts"]["action_head_7"]


def test_draws_depend_on_the_seed_alone() -> None:
    seeds = torch.tensor([5, 6, 2**62, -3])
    noise, time = draw_noise_and_time(seeds, 4, (2, 3), torch.device("cpu"))
    order = torch.tensor([2, 0, 3, 1])
    again, time_again = draw_noise_and_time(seeds[order], 4, (2, 3), torch.device("cpu"))
    alone, _ = draw_noise_and_time(seeds[1:2], 1, (2, 3), torch.device("cpu"))
    assert torch.equal(noise[order], again) and torch.equal(time[order], time_again)
    assert torch.equal(noise[1:2], alone)
    assert len(noise.flatten().unique()) == noise.numel()


def test_draws_without_seeds_follow_the_global_generator() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(draw_noise_and_time(None, 2, (4,), torch.device("cpu"))[0])
    assert torch.equal(*draws)


def test_distribution_of_draws() -> None:
    noise, time = draw_noise_and_time(torch.arange(4000), 4000, (4,), torch.device("cpu"))
    assert noise.mean().abs() < 0.03 and (noise.std() - 1).abs() < 0.03
    assert (time.mean() - 0.5).abs() < 0.02 and time.min() >= 0 and time.max() < 1
    _, beta = draw_noise_and_time(torch.arange(4000), 4000, (4,), torch.device("cpu"), "beta")
    assert (beta.mean() - 0.999 * 0.4).abs() < 0.02  # mean of Beta(1.5, 1) is 0.6
    assert beta.min() >= 0 and beta.max() <= 0.999


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2)])
def test_order_of_convergence(solver: str, order: int) -> None:
    """dx/dt = -2 x + 3 t has x(1) = (x0 + 3/4) exp(-2) + 3/4."""
    start = torch.tensor([[0.3], [-1.7]], dtype=torch.float64)
    exact = (start + 0.75) * math.exp(-2) + 0.75
    errors = [
        (integrate(lambda x, t: -2 * x + 3 * t[:, None], start, steps, solver) - exact).abs().max().item()
        for steps in (16, 32, 64)
    ]
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_straight_paths_are_exact_in_one_euler_step() -> None:
    noise, data = torch.randn(2, 4, 7), torch.randn(2, 4, 7)
    torch.testing.assert_close(integrate(lambda x, t: data - noise, noise, 1, "euler"), data)


def test_unknown_solver() -> None:
    with pytest.raises(ValueError, match="euler, midpoint"):
        integrate(lambda x, t: x, torch.zeros(1), 1, "rk4")


def test_sampling_follows_the_seeds() -> None:
    head, inputs = _head(HEADS[3]).eval(), _inputs()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    first = head.predict(inputs, torch.arange(B))
    assert torch.equal(first, head.predict(inputs, torch.arange(B)))
    assert not torch.equal(first, head.predict(inputs, torch.arange(B) + 1))
    other = HeadInput(inputs.pooled.flip(1), inputs.tokens, inputs.token_mask)
    assert not torch.allclose(first, head.predict(other, torch.arange(B)))
