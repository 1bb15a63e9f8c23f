"""One score of a picture out of its map of anomaly."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

KINDS = ("mean", "max", "std")


@torch.no_grad()
def image_scores(maps: Tensor, pool: Sequence[int]) -> dict[str, Tensor]:
    """
    The published scores of pictures.

    Args:
        maps: float32 [B, H, W].
        pool: height and width of the window for `max`.

    Returns:
        float32 [B] by name: `mean`; `std`, of the population; `max`, of the map averaged over every window.
    """
    maps = maps.float()
    flat = maps.flatten(1)
    height, width = pool
    # a window's average is one of averages of its columns
    columns = nn.functional.avg_pool2d(maps[:, None], (height, 1), stride=1)
    pooled = nn.functional.avg_pool2d(columns, (1, width), stride=1)
    return {"mean": flat.mean(1), "std": flat.std(1, unbiased=False), "max": pooled.flatten(1).amax(1)}
