"""Training images cropped and recoloured at random as OpenVLA's (arXiv 2406.09246), batched and on any device.

Shapes: B samples, S images of a sample, C cameras.
"""

import math

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.2, (0.8, 1.2), (0.8, 1.2), 0.05
DRAWS = 6  # numbers for an image: row and column of the crop, brightness, contrast, saturation, hue
_STREAM = 0x5DEECE66D  # keeps these draws apart from others of the same seeds, such as the noise of an action head


def augment(images: Tensor, seeds: Tensor, area: float | None, num_cameras: int) -> Tensor:
    """
    Change every sample's images at random: by its own seed, whatever batch, process or device it is in.

    The frames of one camera are changed alike, so that what moves between them is what moved.

    Args:
        images: Whole numbers in [0, 255], float32 [B, S, 3, H, W]; all cameras of the oldest frame first.
        seeds: int64 [B], best on the CPU.
        area: See `change`.
        num_cameras: C, a divisor of S.

    Returns:
        Whole numbers in [0, 255], float32 [B, S, 3, H, W].
    """
    draws = draw(seeds, num_cameras).repeat(1, images.shape[1] // num_cameras, 1)
    return change(images.flatten(0, 1), draws.flatten(0, 1).to(images.device), area).view(images.shape)


def draw(seeds: Tensor, count: int) -> Tensor:
    """Uniform numbers float32 [B, count, DRAWS] in [0, 1) by seeds int64 [B]; drawn on the CPU."""
    generator, draws = torch.Generator(), torch.empty(len(seeds), count, DRAWS)
    for row, seed in enumerate(seeds.tolist()):
        generator.manual_seed((seed ^ _STREAM) & (2**63 - 1))
        torch.rand(count, DRAWS, generator=generator, out=draws[row])
    return draws


@torch.no_grad()
def change(images: Tensor, draws: Tensor, area: float | None) -> Tensor:
    """
    Crop, brightness, contrast, saturation and hue, in the published order.

    Args:
        images: Whole numbers in [0, 255], float32 [N, 3, H, W].
        draws: float32 [N, DRAWS] in [0, 1]; 0.5 for all of them leaves colours as they are, and crops the middle.
        area: Share of the area that a crop keeps, which is then resized back; None: all of it.

    Returns:
        Whole numbers in [0, 255], float32 [N, 3, H, W].
    """
    pixels = images / 255
    if area is not None:
        pixels = _crop(pixels, math.sqrt(area), draws[:, :2]).clamp_(0, 1)
    brightness, contrast, saturation, hue = (draws[:, i, None, None, None] for i in range(2, DRAWS))
    pixels = (pixels + BRIGHTNESS * (2 * brightness - 1)).clamp_(0, 1)
    mean = pixels.mean(dim=(-2, -1), keepdim=True)
    pixels = ((pixels - mean) * _between(CONTRAST, contrast) + mean).clamp_(0, 1)
    pixels = _recolour(pixels, _between(SATURATION, saturation)[:, 0], HUE * (2 * hue - 1)[:, 0])
    return pixels.mul_(255.5).floor_().clamp_(0, 255)


def _between(limits: tuple[float, float], share: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * share


def _crop(pixels: Tensor, side: float, places: Tensor) -> Tensor:
    """Windows of `side` times both sizes at `places` [N, 2] in [0, 1), resized back without antialiasing."""
    for axis, place in ((-2, places[:, 0]), (-1, places[:, 1])):
        size = pixels.shape[axis]
        start = place[:, None] * (1 - side) * (size - 1)
        position = start + side * torch.arange(size, device=pixels.device)
        low = position.floor()
        fraction = (position - low)[:, None, None] if axis == -1 else (position - low)[:, None, :, None]
        index = [_spread(edge.long().clamp(max=size - 1), pixels, axis) for edge in (low, position.ceil())]
        first, second = (pixels.gather(axis, places_of) for places_of in index)
        pixels = first + (second - first) * fraction
    return pixels


def _spread(index: Tensor, pixels: Tensor, axis: int) -> Tensor:
    """Places [N, size] along an axis as an index of the shape of `pixels`."""
    shaped = index[:, None, None, :] if axis == -1 else index[:, None, :, None]
    return shaped.expand_as(pixels)


def _recolour(rgb: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Images [N, 3, H, W] with their saturation multiplied and their hue (in turns) moved."""
    high, low = rgb.amax(1), rgb.amin(1)
    span = high - low
    safe = span.clamp(min=1e-12)
    red, green, blue = rgb.unbind(1)
    turn = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    turn = torch.where(span > 0, turn / 6, 0.0) + hue
    share = (span / high.clamp(min=1e-12) * saturation).clamp(0, 1)
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (offset + 6 * turn) % 6
        channels.append(high - high * share * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)
