"""What a detector that learns has to beat: memory of patches and statistics of places, on the same features.

Both see each training picture's features once, and give a distance for each place of a new picture's. Neither is told
the class, unless there is one detector for each.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

_PROJECTED = 64  # dimensions in which distances between candidates are measured
_REGULARISER = 0.01  # PaDiM's, on the diagonal of a covariance
SIGMA = 4.0  # pixels: PatchCore and PaDiM smooth their maps


class Baseline(Protocol):
    """A detector that is fitted in one pass."""

    def add(self, features: Tensor) -> None:
        """Take in training features, float32 [B, C, h, w]."""
        ...

    def finish(self) -> None:
        """All training features were there."""
        ...

    def distances(self, features: Tensor) -> Tensor:
        """How unlike the training features each place is: float32 [B, h, w]."""
        ...


class PatchMemory:
    """
    Distance to the nearest of some remembered patches (PatchCore, arXiv 2106.08265): features averaged over 3 x 3
    places, of which those are kept that cover all others best (greedy k-centres).

    Args:
        size: Patches that are remembered.
        candidates: Patches, drawn evenly from all training pictures, among which they are chosen.
        seed: Of both draws.
    """

    def __init__(self, size: int = 4000, candidates: int = 40000, seed: int = 0) -> None:
        self._size, self._candidates = size, candidates
        self._generator = torch.Generator().manual_seed(seed)
        self._patches, self._keys = torch.empty(0), torch.empty(0)

    def add(self, features: Tensor) -> None:
        """See `Baseline`."""
        patches = _patches(features)
        keys = torch.rand(len(patches), generator=self._generator)
        if len(self._keys):
            patches, keys = torch.cat([self._patches, patches]), torch.cat([self._keys, keys])
        kept = keys.argsort()[: self._candidates]  # the smallest keys of all that ever came: an even draw
        self._patches, self._keys = patches[kept], keys[kept]

    def finish(self) -> None:
        """See `Baseline`."""
        channels = self._patches.shape[1]
        projected = self._patches
        if channels > _PROJECTED:
            projected = projected @ torch.randn(channels, _PROJECTED, generator=self._generator) / _PROJECTED**0.5
        self._patches = self._patches[k_centers(projected, self._size)]

    def distances(self, features: Tensor) -> Tensor:
        """See `Baseline`."""
        shape = (len(features), *features.shape[-2:])
        nearest = [torch.cdist(part, self._patches).amin(dim=1) for part in _patches(features).split(1024)]
        return torch.cat(nearest).reshape(shape)


class PositionGaussian:
    """Mahalanobis distance to the normal distribution of the features at the same place (PaDiM, arXiv 2011.08785)."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, features: Tensor) -> None:
        """See `Baseline`."""
        values = features.flatten(2).permute(2, 0, 1).double()  # [places, B, C]
        if not self._count:
            places, _, channels = values.shape
            self._sums = values.new_zeros(places, channels)
            self._products = values.new_zeros(places, channels, channels)
        self._count += len(features)
        self._sums += values.sum(dim=1)
        self._products += values.mT @ values

    def finish(self) -> None:
        """See `Baseline`."""
        self._mean = self._sums / self._count
        outer = self._mean[:, :, None] * self._mean[:, None, :]
        covariance = (self._products - self._count * outer) / max(self._count - 1, 1)
        covariance.diagonal(dim1=1, dim2=2).add_(_REGULARISER)
        self._factor = torch.linalg.cholesky(covariance)
        del self._sums, self._products

    def distances(self, features: Tensor) -> Tensor:
        """See `Baseline`."""
        values = features.flatten(2).permute(2, 1, 0).double() - self._mean[..., None]  # [places, C, B]
        whitened = torch.linalg.solve_triangular(self._factor, values, upper=False)
        return whitened.square().sum(dim=1).sqrt().T.reshape(len(features), *features.shape[-2:]).float()


BASELINES = {"patch-memory": PatchMemory, "position-gaussian": PositionGaussian}


def to_maps(distances: Tensor, size: tuple[int, int], sigma: float = SIGMA) -> Tensor:
    """Distances [B, h, w] as maps [B, H, W]: bilinear, then smoothed by a Gaussian of `sigma` pixels."""
    maps = nn.functional.interpolate(distances[:, None], size=size, mode="bilinear", align_corners=False)
    if sigma > 0:
        reach = round(4 * sigma)
        line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
        line = (line / line.sum()).to(maps)
        reach_y, reach_x = min(reach, size[0] - 1), min(reach, size[1] - 1)
        maps = nn.functional.pad(maps, (reach_x, reach_x, reach_y, reach_y), mode="reflect")
        rows, columns = (line[reach - r : reach + r + 1] for r in (reach_y, reach_x))
        maps = nn.functional.conv2d(maps, (rows / rows.sum())[None, None, :, None])
        maps = nn.functional.conv2d(maps, (columns / columns.sum())[None, None, None])
    return maps[:, 0]


def k_centers(points: Tensor, count: int) -> Tensor:
    """
    Numbers of points that cover the others: each is the one farthest from those before it, beginning with the first.

    Args:
        points: Float [N, D].
        count: How many; all in their order if there are not more.

    Returns:
        Int64 [min(count, N)].
    """
    if len(points) <= count:
        return torch.arange(len(points))
    norms = points.square().sum(dim=1)
    chosen, far = torch.zeros(count, dtype=torch.int64), torch.full((len(points),), torch.inf)
    for number in range(count):
        current = 0 if number == 0 else int(far.argmax())
        chosen[number] = current
        squared = norms + norms[current] - 2 * (points @ points[current])
        far = torch.minimum(far, squared)
        far[current] = -torch.inf
    return chosen


def _patches(features: Tensor) -> Tensor:
    """Features [B, C, h, w], averaged over 3 x 3 places, as rows [B * h * w, C]."""
    pooled = nn.functional.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)
    return pooled.flatten(2).transpose(1, 2).flatten(0, 1).float()
