"""Pictures as nanoVLM sees them: read, resized to whole tiles on the CPU, cut into tiles where the model runs.

A worker gives uint8 pixels of the resized picture; cutting, and the small copy of the whole picture that goes before
its tiles, are made on the device from these, as published from values in [0, 1].
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from vla.data.vqa.tiling import Grid, Tiling, num_tiles

Pixels = NDArray[np.uint8]
ORDER = "order"  # beside the grids ("3x4") among the pixels of a batch
MAX_TEXT_CHUNK = 100 * 2**20  # bytes of text that a PNG file may hold; Pillow's own limit refuses some of FineVision's
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values that exchange height and width


def open_image(picture: Any) -> Image.Image:
    """
    A picture whose pixels are not read yet.

    Args:
        picture: a path, encoded bytes, `{"bytes", "path"}` as in a Hugging Face dataset, or a PIL image.

    Raises:
        Exception: one of `vla.data.pictures.UNREADABLE`; it is none.
    """
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, Mapping):
        picture = picture["path"] if picture.get("bytes") is None else picture["bytes"]
    PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, MAX_TEXT_CHUNK)
    if isinstance(picture, bytes | bytearray | memoryview):
        return Image.open(io.BytesIO(picture))
    if isinstance(picture, str | Path):
        return Image.open(picture)
    raise TypeError(f"neither a path nor bytes nor a picture: {type(picture).__name__}")


def image_size(picture: Any) -> tuple[int, int]:
    """Height and width of a picture as it is meant to be looked at, from its header alone; see `open_image`."""
    image = open_image(picture)
    width, height = image.size
    if min(height, width) < 1:
        raise ValueError("the picture is empty")
    # Pillow reads a whole PNG file to look for EXIF behind its pixels, where there hardly ever is any.
    has_header = image.format != "PNG" or "exif" in image.info
    is_turned = has_header and image.getexif().get(_ORIENTATION) in _TURNED
    return (width, height) if is_turned else (height, width)


def load_image(picture: Any, tiling: Tiling) -> Pixels:
    """A picture resized to whole tiles: uint8 [3, R * S, C * S], a view of channels-last memory; see `open_image`."""
    image = ImageOps.exif_transpose(open_image(picture)).convert("RGB")
    height, width = tiling.resized(image.height, image.width)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def grid_name(grid: Grid) -> str:
    """Key of the pictures that are cut so."""
    return f"{grid[0]}x{grid[1]}"


def batch_images(images: Sequence[Pixels], tile: int, *, whole: bool = True) -> dict[str, Tensor]:
    """
    Pictures of a batch, by grid.

    Args:
        images: in the order in which the model meets them, each [3, R * S, C * S].
        tile: S, pixels.
        whole: whether a picture of several tiles is also one tile.

    Returns:
        uint8 [n, 3, R * S, C * S] by grid, in alphabetical order; `order` int64 [N]: of the tiles of all grids one
        behind the other, which comes when.
    """
    grids = [(image.shape[1] // tile, image.shape[2] // tile) for image in images]
    groups: dict[str, list[int]] = {}
    for number, grid in enumerate(grids):
        groups.setdefault(grid_name(grid), []).append(number)
    counts = [num_tiles(grid, whole=whole) for grid in grids]
    places, start = {}, 0
    for name in sorted(groups):
        for number in groups[name]:
            places[number], start = start, start + counts[number]
    order = [places[number] + tile for number, count in enumerate(counts) for tile in range(count)]
    batched = {
        name: torch.from_numpy(np.stack([images[number].transpose(1, 2, 0) for number in groups[name]]))
        for name in sorted(groups)
    }
    return {
        **{name: pictures.permute(0, 3, 1, 2) for name, pictures in batched.items()},
        ORDER: torch.tensor(order, dtype=torch.int64),
    }


def cut_into_tiles(pictures: Mapping[str, Tensor], tile: int, *, whole: bool = True) -> Tensor:
    """
    Tiles of a batch's pictures, on the pictures' device.

    Args:
        pictures: what `batch_images` gave.
        tile: S, pixels.
        whole: whether a picture of several tiles is also one tile, before them.

    Returns:
        float32 [N, 3, S, S] in [0, 1], in `order`.
    """
    groups = [_cut(pictures[name].float().div(255), tile, whole) for name in sorted(pictures) if name != ORDER]
    order = pictures[ORDER]
    if not groups:
        return torch.empty(0, 3, tile, tile, device=order.device)
    return torch.cat(groups).index_select(0, order)


def _cut(pictures: Tensor, tile: int, whole: bool) -> Tensor:
    """Tiles [n * k, 3, S, S] of pictures [n, 3, R * S, C * S], row by row."""
    cells = pictures.unflatten(3, (-1, tile)).unflatten(2, (-1, tile))  # [n, 3, R, S, C, S]
    tiles = cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    if whole and tiles.shape[1] > 1:
        small = F.interpolate(pictures, size=(tile, tile), mode="bilinear", antialias=True, align_corners=False)
        tiles = torch.cat([small[:, None], tiles], dim=1)
    return tiles.flatten(0, 1)


def images_per_document(
    pictures: Mapping[str, Tensor], document_ids: Tensor, image_mask: Tensor, num_documents: int, *, whole: bool = True
) -> Tensor:
    """
    How many pictures each sample of a batch is about.

    Args:
        pictures: what `batch_images` gave.
        document_ids: int64 [B, L], see `PackedBatch`.
        image_mask: bool [B, L], where the tiles' embeddings stand, tile after tile.
        num_documents: D.
        whole: whether a picture of several tiles is also one tile, before them.

    Returns:
        int64 [D].
    """
    order = pictures[ORDER]
    if not len(order):
        return torch.zeros(num_documents, dtype=torch.int64)
    begins_picture: list[bool] = []  # of every tile, grid after grid
    for name in sorted(name for name in pictures if name != ORDER):
        rows, _, columns = name.partition("x")
        count = num_tiles((int(rows), int(columns)), whole=whole)
        begins_picture += [True, *[False] * (count - 1)] * len(pictures[name])
    places = document_ids[image_mask]
    of_tiles = places[:: len(places) // len(order)]
    return torch.bincount(of_tiles[torch.tensor(begins_picture)[order]], minlength=num_documents)
