"""A chunk of actions by flow matching: a small diffusion transformer predicts the velocity from noise to actions.

Flow matching: arXiv 2210.02747; transformer with adaptive layer norm: arXiv 2212.09748; for robots: arXiv 2410.24164.
Shapes: B batch, chunk action steps, A action dimensions, T fused tokens, H hidden width.
"""

import torch
from torch import Tensor, nn

from vla.conf.models.components import FlowHeadConfig
from vla.models.components.action_heads.base import ActionHead, HeadInput
from vla.models.components.action_heads.flow_matching import draw_noise_and_time, integrate
from vla.models.components.attention import FeedForward, MultiHeadAttention

_TIME_SCALE = 1000.0  # time in [0, 1] is spread over the range that sinusoidal codes are made for


def time_embedding(time: Tensor, dim: int) -> Tensor:
    """Sinusoidal code [B, dim] float32 of times [B] in [0, 1]."""
    half = dim // 2
    frequencies = 10000.0 ** (-torch.arange(half, device=time.device, dtype=torch.float32) / half)
    angles = _TIME_SCALE * time.float()[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class _AdaptiveNorm(nn.Module):
    """Layer norm whose shift, scale and output gate come from a condition [B, H]; the gate starts at zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = nn.Linear(dim, 3 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale, gate = self.modulation(condition).unsqueeze(1).chunk(3, dim=-1)
        return self.norm(x) * (1 + scale) + shift, gate


class _FlowBlock(nn.Module):
    """Self-attention over the action steps, attention over the fused tokens, MLP; each gated by the condition."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_AdaptiveNorm(dim) for _ in range(3))
        self.self_attention = MultiHeadAttention(dim, num_heads, dropout)
        self.cross_attention = MultiHeadAttention(dim, num_heads, dropout)
        self.mlp = FeedForward(dim, dropout=dropout)

    def forward(self, x: Tensor, context: Tensor, context_mask: Tensor | None, condition: Tensor) -> Tensor:
        normed, gate = self.norms[0](x, condition)
        x = x + gate * self.self_attention(normed, normed)
        normed, gate = self.norms[1](x, condition)
        x = x + gate * self.cross_attention(normed, context, context_mask)
        normed, gate = self.norms[2](x, condition)
        return x + gate * self.mlp(normed)


class FlowHead(ActionHead):
    """
    Velocity network over action chunks, and sampling with it.

    Args:
        config: Sizes, solver, and how training times are drawn.
        input_dim: Width D of the fused tokens.
        action_dim: A.
        proprio_dim: Width of the robot state; None: it isn't used.
    """

    def __init__(
        self, config: FlowHeadConfig, input_dim: int, action_dim: int = 7, proprio_dim: int | None = None
    ) -> None:
        super().__init__(config, input_dim, action_dim, proprio_dim)
        dim = config.hidden_dim
        self.action_projection = nn.Linear(action_dim, dim)
        self.step_embedding = nn.Parameter(torch.empty(config.chunk_size, dim))
        nn.init.normal_(self.step_embedding, std=0.02)
        self.context_projection = nn.Sequential(nn.LayerNorm(input_dim), nn.Linear(input_dim, dim))
        self.condition_projection = nn.Sequential(nn.LayerNorm(self.joined_dim), nn.Linear(self.joined_dim, dim))
        self.time_projection = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(_FlowBlock(dim, config.num_heads, config.dropout) for _ in range(config.num_layers))
        self.output_norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, action_dim)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def losses(self, inputs: HeadInput, actions: Tensor, seeds: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """See `ActionHead.losses`: squared velocity error; `denoised_l1` is the error of one step to the end."""
        actions = actions.float()
        noise, time = draw_noise_and_time(
            seeds, len(actions), actions.shape[1:], actions.device, self.config.time_sampling
        )
        weight = time[:, None, None]
        noisy = (1 - weight) * noise + weight * actions
        velocity = self._velocity(noisy, time, *self._conditions(inputs))
        loss = (velocity - (actions - noise)).square().mean(dim=-1)
        denoised = noisy + (1 - weight) * velocity
        return loss, {"denoised_l1": (denoised - actions).abs().mean(dim=-1).detach()}

    def predict(self, inputs: HeadInput, seeds: Tensor | None = None) -> Tensor:
        """See `ActionHead.predict`: follows the velocity from noise with the configured solver."""
        shape = (self.config.chunk_size, self.action_dim)
        noise, _ = draw_noise_and_time(seeds, len(inputs.pooled), shape, inputs.pooled.device)
        context, mask, condition = self._conditions(inputs)
        return integrate(
            lambda x, time: self._velocity(x, time, context, mask, condition),
            noise,
            self.config.num_solver_steps,
            self.config.solver,
        )

    def _conditions(self, inputs: HeadInput) -> tuple[Tensor, Tensor | None, Tensor]:
        """What stays the same over the solver's steps: context [B, T, H], its mask, condition [B, H]."""
        return self.context_projection(inputs.tokens), inputs.token_mask, self.condition_projection(self.join(inputs))

    def _velocity(
        self, noisy: Tensor, time: Tensor, context: Tensor, context_mask: Tensor | None, condition: Tensor
    ) -> Tensor:
        condition = condition + self.time_projection(time_embedding(time, self.config.hidden_dim))
        condition = nn.functional.silu(condition)
        x = self.action_projection(noisy) + self.step_embedding
        for block in self.blocks:
            x = block(x, context, context_mask, condition)
        return self.output(self.output_norm(x)).float()
