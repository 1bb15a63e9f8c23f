"""Projectors: from a vision backbone's patch tokens to a language model's embeddings."""

import torch
from torch import Tensor, nn


class Projector(nn.Module):
    """
    A projector under its published names, `projector.*`.

    It always starts from the same values: the published ones were drawn with the vision backbone's width as the seed.
    PyTorch's own generator is left as it was.

    Args:
        kind: linear | gelu-mlp | fused-gelu-mlp.
        vision_dim: Channels of a patch token.
        llm_dim: Width of the language model.

    Raises:
        ValueError: There is no such kind.
    """

    def __init__(self, kind: str, vision_dim: int, llm_dim: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(vision_dim)
            self.projector = _get_projector(kind, vision_dim, llm_dim)

    def forward(self, patches: Tensor) -> Tensor:
        """[..., vision_dim] -> [..., llm_dim]."""
        return self.projector(patches)


def _get_projector(kind: str, vision_dim: int, llm_dim: int) -> nn.Module:
    if kind == "linear":
        return nn.Linear(vision_dim, llm_dim)
    if kind == "gelu-mlp":
        return nn.Sequential(nn.Linear(vision_dim, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim))
    if kind == "fused-gelu-mlp":
        inner = 4 * vision_dim
        return nn.Sequential(
            nn.Linear(vision_dim, inner), nn.GELU(), nn.Linear(inner, llm_dim), nn.GELU(), nn.Linear(llm_dim, llm_dim)
        )
    raise ValueError(f"projector must be one of linear, gelu-mlp, fused-gelu-mlp, got {kind!r}")
