"""
rope.py

Two-dimensional rotary position encoding (RoPE): the first half of each head is rotated by the row of a token, the
second half by its column. Angles depend on the patch grid alone, so the tables are built once per grid and shared by
all layers.
"""

from __future__ import annotations

import torch
from torch import Tensor

RopeTable = tuple[Tensor, Tensor]  # (cos, signed sin), float32, each [..., N, head_dim]

_MAX_CACHED_TABLES = 8


def rope_table(positions: Tensor, head_dim: int, base: float = 100.0) -> RopeTable:
    """
    Rotation tables for integer positions.

    Args:
        positions: [..., N, 2] integer (row, column).
        head_dim: Channels per attention head, a multiple of 4.
        base: Base frequency.

    Returns:
        `(cos, sin)`, float32 [..., N, head_dim]. The sign of the "rotate half" pairing is folded into `sin`.
    """
    quarter = head_dim // 4
    exponents = torch.arange(quarter, dtype=torch.float32, device=positions.device) / quarter
    angles = positions.float().unsqueeze(-1) * (base**-exponents)  # [..., N, 2, quarter]
    cos, sin = angles.cos(), angles.sin()
    # channels of a head: (row, column) x (first, second element of a pair) x frequency
    return torch.stack((cos, cos), dim=-2).flatten(-3), torch.stack((-sin, sin), dim=-2).flatten(-3)


def apply_rope(x: Tensor, table: RopeTable) -> Tensor:
    """
    Rotate queries or keys.

    Args:
        x: [..., N, head_dim] floating point.
        table: `(cos, sin)` from `rope_table`, broadcastable to `x`.

    Returns:
        The rotated tensor in the dtype of `x`.
    """
    cos, sin = table
    swapped = x.unflatten(-1, (2, 2, x.shape[-1] // 4)).flip(-2).flatten(-3)
    return x * cos.to(x.dtype) + swapped * sin.to(x.dtype)


def token_positions(height: int, width: int, num_special: int, device: torch.device | None = None) -> Tensor:
    """
    Positions of one frame's tokens.

    Args:
        height: Rows of the patch grid.
        width: Columns of the patch grid.
        num_special: Tokens before the patches; all of them sit at (0, 0).
        device: Where to build the tensor.

    Returns:
        int64 [num_special + height * width, 2]; the patch at (r, c) has position (r + 1, c + 1).
    """
    rows = torch.arange(1, height + 1, device=device)
    columns = torch.arange(1, width + 1, device=device)
    grid = torch.cartesian_prod(rows, columns).view(-1, 2)
    return torch.cat((torch.zeros(num_special, 2, dtype=grid.dtype, device=device), grid))


class RopeTables:
    """
    Tables for frame and global attention, kept for the last few patch grids.

    Args:
        head_dim: Channels per attention head, a multiple of 4.
        base: Base frequency.
        num_special: Tokens before the patches of each frame.
    """

    def __init__(self, head_dim: int, base: float, num_special: int) -> None:
        self.head_dim = head_dim
        self.base = base
        self.num_special = num_special
        self._cache: dict[tuple[int, int, int, torch.device], RopeTable] = {}

    def get(self, height: int, width: int, num_frames: int, device: torch.device) -> RopeTable:
        """
        Tables for `num_frames` frames laid one after the other; every frame repeats the same positions.

        Returns:
            `(cos, sin)`, float32 [num_frames * (num_special + height * width), head_dim].
        """
        key = (height, width, num_frames, device)
        table = self._cache.get(key)
        if table is not None:
            return table
        # inference tensors can't be saved for a later backward, so the kept tables must be ordinary ones
        with torch.inference_mode(False), torch.no_grad():
            positions = token_positions(height, width, self.num_special, device)
            cos, sin = rope_table(positions, self.head_dim, self.base)
            table = (cos.repeat(num_frames, 1), sin.repeat(num_frames, 1))
        if type(table[0]) is Tensor and not torch.compiler.is_compiling():  # never keep a tracer's stand-in
            if len(self._cache) >= _MAX_CACHED_TABLES:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = table
        return table
