"""nanoVLM's projector: neighbouring patches become one token, then a linear map. N tiles, P patches, C channels."""

from torch import Tensor, nn


def pixel_shuffle(patches: Tensor, factor: int) -> Tensor:
    """
    Fold squares of `factor` x `factor` patches into one token each.

    Args:
        patches: [N, P, C], row by row from a square grid whose side is a multiple of `factor`.
        factor: Patches along each side of a square.

    Returns:
        [N, P / factor^2, C * factor^2], row by row; the patches of a square one behind the other, row by row.

    Raises:
        ValueError: The grid is not square, or can't be cut so.
    """
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1] or side % factor:
        raise ValueError(f"patches must be of a square grid whose side is a multiple of {factor}, got {patches.shape}")
    grid = patches.unflatten(1, (side // factor, factor, side // factor, factor))
    return grid.transpose(2, 3).flatten(3, 5).flatten(1, 2)


class PixelShuffleProjector(nn.Module):
    """
    Pixel shuffle and one linear map, under the published name `proj.weight`.

    Args:
        vision_dim: Channels of a patch.
        llm_dim: Width of the language model.
        factor: See `pixel_shuffle`.
    """

    def __init__(self, vision_dim: int, llm_dim: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.proj = nn.Linear(vision_dim * factor**2, llm_dim, bias=False)
        nn.init.normal_(self.proj.weight, std=0.02)

    def forward(self, patches: Tensor) -> Tensor:
        """[N, P, vision_dim] -> [N, P / factor^2, llm_dim]."""
        return self.proj(pixel_shuffle(patches.to(self.proj.weight.dtype), self.factor))
