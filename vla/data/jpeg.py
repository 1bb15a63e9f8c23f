"""What JPEG does to images, without a file: the loss of encoding and decoding, batched and on any device.

Entropy coding loses nothing, so only the arithmetic in between is needed. It is that of libjpeg-turbo, in integers:
what `tf.image.encode_jpeg` writes (colours at half resolution, exact forward transform) and `tf.io.decode_image` reads
(fast inverse transform, smooth colours). Other decoders, Pillow's among them, use the exact inverse transform and
differ by a few levels. Shapes: N images, C colour planes, H and W pixels.
"""

from functools import lru_cache

import torch
from torch import Tensor

_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32,
)  # fmt: skip
# scale factors of the fast transform's two directions, cos(k pi / 16) sqrt(2), in units of 2^-14
_AAN = (1.0, 1.387039845, 1.306562965, 1.175875602, 1.0, 0.785694958, 0.541196100, 0.275899379)
_CHUNK_PIXELS = {"cpu": 2**18, "cuda": 2**25}  # of one intermediate result


@torch.no_grad()
def jpeg_round_trip(images: Tensor, quality: int = 95) -> Tensor:
    """
    Images as they come back from a JPEG file.

    Args:
        images: uint8 RGB [..., 3, H, W], any strides.
        quality: 1 to 100.

    Returns:
        uint8 of the same shape, contiguous.

    Raises:
        TypeError: The images aren't uint8.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    batch = images.reshape(-1, *images.shape[-3:])
    result = torch.empty(batch.shape, dtype=torch.uint8, device=images.device)
    step = max(1, _CHUNK_PIXELS.get(images.device.type, 2**18) // (images.shape[-2] * images.shape[-1]))
    for source, target in zip(batch.split(step), result.split(step), strict=True):
        target.copy_(_round_trip(source.to(torch.int32), quality))
    return result.reshape(images.shape)


def _round_trip(rgb: Tensor, quality: int) -> Tensor:
    height, width = rgb.shape[-2:]
    luma, chroma = _to_ycc(rgb)
    luma = _code(_replicate(luma, -height % 8, -width % 8), _LUMINANCE, quality)[..., :height, :width]
    small = _halve(chroma)
    kept = small.shape[-2:]
    small = _code(_replicate(small, -kept[0] % 8, -kept[1] % 8), _CHROMINANCE, quality)[..., : kept[0], : kept[1]]
    return _to_rgb(luma, _double(small)[..., :height, :width])


def _fixed(value: float) -> int:
    return int(value * 65536 + 0.5)


def _to_ycc(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance [N, 1, H, W] and the two colours [N, 2, H, W]."""
    red, green, blue = rgb.unbind(1)
    luma = (_fixed(0.299) * red + _fixed(0.587) * green + _fixed(0.114) * blue + 32768) >> 16
    offset = (128 << 16) + 32767
    cb = (_fixed(0.5) * blue - _fixed(0.16874) * red - _fixed(0.33126) * green + offset) >> 16
    cr = (_fixed(0.5) * red - _fixed(0.41869) * green - _fixed(0.08131) * blue + offset) >> 16
    return luma[:, None], torch.stack((cb, cr), 1)


def _to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    y = luma[:, 0]
    cb, cr = (chroma - 128).unbind(1)
    red = y + ((_fixed(1.402) * cr + 32768) >> 16)
    green = y + ((-_fixed(0.34414) * cb - _fixed(0.71414) * cr + 32768) >> 16)
    blue = y + ((_fixed(1.772) * cb + 32768) >> 16)
    return torch.stack((red, green, blue), 1).clamp_(0, 255)


def _replicate(planes: Tensor, rows: int, columns: int) -> Tensor:
    """`planes` with the last row and column repeated."""
    if rows:
        planes = torch.cat((planes, planes[..., -1:, :].expand(*planes.shape[:-2], rows, -1)), dim=-2)
    if columns:
        planes = torch.cat((planes, planes[..., -1:].expand(*planes.shape[:-1], columns)), dim=-1)
    return planes


def _halve(planes: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, rounded down in even and up in odd columns."""
    planes = _replicate(planes, planes.shape[-2] % 2, planes.shape[-1] % 2)
    total = planes[..., ::2, ::2] + planes[..., ::2, 1::2] + planes[..., 1::2, ::2] + planes[..., 1::2, 1::2]
    bias = 1 + torch.arange(total.shape[-1], device=planes.device, dtype=planes.dtype) % 2
    return (total + bias) >> 2


def _double(planes: Tensor) -> Tensor:
    """Twice the size by a triangle filter: a pixel is 3/4 of the nearer and 1/4 of the further one, both ways."""
    height, width = planes.shape[-2:]
    center = 3 * planes
    rows = torch.empty(*planes.shape[:-2], height, 2, width, dtype=planes.dtype, device=planes.device)
    torch.add(center[..., 1:, :], planes[..., :-1, :], out=rows[..., 1:, 0, :])
    torch.add(center[..., :-1, :], planes[..., 1:, :], out=rows[..., :-1, 1, :])
    rows[..., 0, 0, :], rows[..., -1, 1, :] = 4 * planes[..., 0, :], 4 * planes[..., -1, :]
    rows = rows.flatten(-3, -2)
    center = 3 * rows
    result = torch.empty(*rows.shape, 2, dtype=planes.dtype, device=planes.device)
    torch.add(center[..., 1:], rows[..., :-1], out=result[..., 1:, 0])
    torch.add(center[..., :-1], rows[..., 1:], out=result[..., :-1, 1])
    result[..., 0, 0], result[..., -1, 1] = 4 * rows[..., 0], 4 * rows[..., -1]
    result[..., 0] += 8
    result[..., 1] += 7
    return (result >> 4).flatten(-2)


def _code(planes: Tensor, table: tuple[int, ...], quality: int) -> Tensor:
    """Blocks of 8 x 8 transformed, quantised, and back; `planes` int32 [N, C, H, W] with H and W multiples of 8."""
    divisors, multipliers = (constant.to(planes.device) for constant in _quantisation(table, quality))
    # [8, 8, N, C, H / 8, W / 8]: a place inside the block first, so that whatever is done to it runs over all blocks
    blocks = planes.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).permute(3, 5, 0, 1, 2, 4).contiguous()
    size = blocks.shape
    coefficients = _forward(blocks.flatten(2))
    quantised = coefficients.abs().add_(divisors / 2).div_(divisors).floor_().copysign_(coefficients)
    decoded = _inverse(quantised.int().mul_(multipliers)).view(size)
    return decoded.permute(2, 3, 4, 0, 5, 1).reshape(planes.shape)


@lru_cache(maxsize=8)
def _quantisation(table: tuple[int, ...], quality: int) -> tuple[Tensor, Tensor]:
    """Divisors (float64) of the exact and multipliers (int32) of the fast transform, [8, 8, 1]."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = ((torch.tensor(table).view(8, 8) * scale + 50) // 100).clamp(1, 255)
    factors = torch.tensor(_AAN, dtype=torch.float64)
    scales = (torch.outer(factors, factors) * 2**14 + 0.5).floor().long()
    return (steps * 8.0).double()[..., None], ((steps * scales + 2**11) >> 12).int()[..., None]


@lru_cache(maxsize=1)
def _forward_matrix() -> Tensor:
    """The exact transform of 8 samples as libjpeg's integers (units of 2^-13), float64 [8, 8]."""
    c0298, c0390, c0541, c0765, c0899, c1175 = 2446, 3196, 4433, 6270, 7373, 9633
    c1501, c1847, c1961, c2053, c2562, c3072 = 12299, 15137, 16069, 16819, 20995, 25172
    sums, differences = torch.zeros(4, 8, dtype=torch.float64), torch.zeros(4, 8, dtype=torch.float64)
    for i in range(4):
        sums[i, i] = sums[i, 7 - i] = differences[i, i] = 1
        differences[i, 7 - i] = -1
    rows: dict[int, Tensor] = {}
    ten, thirteen = sums[0] + sums[3], sums[0] - sums[3]
    eleven, twelve = sums[1] + sums[2], sums[1] - sums[2]
    rows[0], rows[4] = 8192 * (ten + eleven), 8192 * (ten - eleven)
    common = c0541 * (twelve + thirteen)
    rows[2], rows[6] = common + c0765 * thirteen, common - c1847 * twelve
    seven, six, five, four = differences
    z5 = c1175 * (four + six + five + seven)
    z1, z2 = -c0899 * (four + seven), -c2562 * (five + six)
    z3, z4 = z5 - c1961 * (four + six), z5 - c0390 * (five + seven)
    rows[7], rows[5] = c0298 * four + z1 + z3, c2053 * five + z2 + z4
    rows[3], rows[1] = c3072 * six + z2 + z3, c1501 * seven + z1 + z4
    return torch.stack([rows[i] for i in range(8)])


def _forward(blocks: Tensor) -> Tensor:
    """Coefficients times 8, whole float64 [8, 8, blocks], of samples int32 [8, 8, blocks] in [0, 255]."""
    matrix = _forward_matrix().to(blocks.device)
    # whole numbers below 2^53: float64 products add up without rounding
    samples = blocks.double().sub_(128).transpose(0, 1).flatten(1)
    rows = (matrix @ samples).add_(2**10).mul_(2**-11).floor_().view(8, 8, -1)
    columns = (matrix @ rows.transpose(0, 1).flatten(1)).add_(2**14).mul_(2**-15).floor_()
    return columns.view(8, 8, -1)


def _inverse(coefficients: Tensor) -> Tensor:
    """Samples int32 in [0, 255] of dequantised coefficients, both [8, 8, blocks]."""
    columns = _inverse_pass(coefficients, 0)
    return (_inverse_pass(columns, 1) >> 5).add_(128).clamp_(0, 255)


def _inverse_pass(x: Tensor, axis: int) -> Tensor:
    """The fast inverse transform along one axis, with constants in units of 2^-8 and rounding down."""
    x0, x1, x2, x3, x4, x5, x6, x7 = x.unbind(axis)
    ten, eleven, thirteen = x0 + x4, x0 - x4, x2 + x6
    twelve = (((x2 - x6) * 362) >> 8) - thirteen
    even = (ten + thirteen, eleven + twelve, eleven - twelve, ten - thirteen)
    z13, z10, z11, z12 = x5 + x3, x5 - x3, x1 + x7, x1 - x7
    z5 = ((z10 + z12) * 473) >> 8
    seven = z11 + z13
    six = ((z10 * -669) >> 8) + z5 - seven
    five = (((z11 - z13) * 362) >> 8) - six
    four = ((z12 * 277) >> 8) - z5 + five
    odd = (seven, six, five, -four)
    ends = [e + o for e, o in zip(even, odd, strict=True)] + [e - o for e, o in zip(even[::-1], odd[::-1], strict=True)]
    return torch.stack(ends, axis)
