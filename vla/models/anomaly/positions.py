"""What a place of the feature map knows of where it is: position embeddings, and the mask of its neighbourhood."""

import math

import torch
from torch import Tensor, nn

TEMPERATURE = 10000.0


class LearnedPositions(nn.Module):
    """
    A learned vector for each column and each row; a place's is its column's followed by its row's.

    Args:
        feature_size: Height and width of the map.
        dim: Channels, even.
    """

    def __init__(self, feature_size: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(feature_size[0], dim // 2)
        self.col_embed = nn.Embedding(feature_size[1], dim // 2)
        for table in (self.row_embed, self.col_embed):
            nn.init.uniform_(table.weight)

    def forward(self) -> Tensor:
        """Float [H * W, dim], row by row."""
        rows, columns = self.row_embed.weight, self.col_embed.weight
        height, width = len(rows), len(columns)
        columns, rows = columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=-1).flatten(0, 1)


class SinePositions(nn.Module):
    """
    Sines and cosines of row and column (DETR's, normalised to 2 pi); a place's are its row's, then its column's.

    Args:
        feature_size: Height and width of the map.
        dim: Channels, a multiple of 4.
    """

    def __init__(self, feature_size: tuple[int, int], dim: int) -> None:
        super().__init__()
        height, width = feature_size
        rows, columns = _waves(height, dim // 2), _waves(width, dim // 2)
        grid = torch.cat([rows[:, None].expand(-1, width, -1), columns.expand(height, -1, -1)], dim=-1)
        self.register_buffer("table", grid.flatten(0, 1), persistent=False)

    def forward(self) -> Tensor:
        """Float [H * W, dim], row by row."""
        return self.table  # type: ignore[return-value]


def _waves(count: int, dim: int) -> Tensor:
    """Float32 [count, dim] of places 1 to `count`: sine and cosine in turns, of falling frequency."""
    places = torch.arange(1, count + 1, dtype=torch.float32)
    angles = places / (count + 1e-6) * (2 * math.pi)
    frequencies = TEMPERATURE ** (2 * (torch.arange(dim) // 2) / dim)
    angles = angles[:, None] / frequencies
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)


def blocked_neighbors(feature_size: tuple[int, int], neighbor_size: tuple[int, int]) -> Tensor:
    """Bool [H * W, H * W]: whether a place (row) must not look at another (column), itself and its neighbours."""
    height, width = feature_size
    rows, columns = torch.arange(height), torch.arange(width)
    near_rows = (rows[:, None] - rows).abs() <= neighbor_size[0] // 2
    near_columns = (columns[:, None] - columns).abs() <= neighbor_size[1] // 2
    near = near_rows[:, None, :, None] & near_columns[None, :, None, :]
    return near.flatten(2).flatten(0, 1)
