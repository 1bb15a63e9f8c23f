"""A chunk of actions by regression, all steps at once (parallel decoding as in OpenVLA-OFT, arXiv 2502.19645)."""

from torch import Tensor, nn

from vla.conf.models.components import ChunkHeadConfig
from vla.models.components.action_heads.base import ActionHead, HeadInput
from vla.models.components.vla_loss import regression_loss


class _ResidualBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ChunkHead(ActionHead):
    """
    A residual MLP from the pooled input to [B, chunk, A].

    Args:
        config: Width, depth and loss.
        input_dim: Width D of the fused tokens.
        action_dim: A.
        proprio_dim: Width of the robot state; None: it isn't used.
    """

    def __init__(
        self, config: ChunkHeadConfig, input_dim: int, action_dim: int = 7, proprio_dim: int | None = None
    ) -> None:
        super().__init__(config, input_dim, action_dim, proprio_dim)
        hidden = config.hidden_dim
        self.layers = nn.Sequential(
            nn.LayerNorm(self.joined_dim),
            nn.Linear(self.joined_dim, hidden),
            *(_ResidualBlock(hidden) for _ in range(config.num_layers)),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, config.chunk_size * action_dim),
        )

    def losses(self, inputs: HeadInput, actions: Tensor, seeds: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        """See `ActionHead.losses`."""
        predicted, target = self.predict(inputs), actions.float()
        error = (predicted - target).abs().mean(dim=-1)
        return regression_loss(self.config.loss, predicted, target).mean(dim=-1), {"action_l1": error.detach()}

    def predict(self, inputs: HeadInput, seeds: Tensor | None = None) -> Tensor:
        """See `ActionHead.predict`."""
        return self.layers(self.join(inputs)).float().unflatten(-1, (self.config.chunk_size, self.action_dim))
