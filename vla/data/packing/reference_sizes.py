"""The sizes of samples that packing is measured on: nanoVLM's recipe over a stated mixture of questions about images.

Images are cut as the recipe cuts them (512 pixels a tile, longer side 2,048 pixels), 64 tokens a tile and one token
that names its place; text is log-normal, with a median of 130 tokens and a tail of thousands.
"""

import numpy as np

from vla.data.packing.packer import Size
from vla.data.vqa.tiling import Tiling, num_tiles

SEQ_LENGTH, MAX_IMAGES, MAX_IMAGES_PER_SAMPLE = 4096, 18, 4
TOKENS_PER_TILE = 64
NUM_IMAGES = {0: 0.12, 1: 0.80, 2: 0.05, 3: 0.02, 4: 0.01}  # images of a sample -> share of samples
PICTURES = {  # (width, height) -> share of images
    (640, 480): 0.30, (480, 640): 0.12, (1024, 1024): 0.22, (1920, 1080): 0.10,  # photos, screens
    (1000, 500): 0.14, (827, 1654): 0.08, (1600, 400): 0.04,  # charts, receipts, lines of text
}  # fmt: skip
TEXT_MEDIAN, TEXT_SIGMA, TEMPLATE = 110, 1.1, 20  # tokens; of the logarithm; tokens of the dialogue's format


def nanovlm_sizes(count: int, seed: int = 0) -> list[Size]:
    """Sizes of `count` samples that fit into a sequence of 4,096 tokens, in random order."""
    generator = np.random.default_rng(seed)
    tiling = Tiling(512, 2048)
    tiles = [num_tiles(tiling.grid(height, width)) for width, height in PICTURES]
    tokens = np.array([number * (TOKENS_PER_TILE + 1) for number in tiles])
    sizes: list[Size] = []
    while len(sizes) < count:
        images = int(generator.choice(list(NUM_IMAGES), p=list(NUM_IMAGES.values())))
        pictures = generator.choice(len(tokens), size=images, p=list(PICTURES.values()))
        text = TEMPLATE + int(generator.lognormal(np.log(TEXT_MEDIAN), TEXT_SIGMA))
        length = int(tokens[pictures].sum()) + text
        if length < SEQ_LENGTH:
            sizes.append(Size(len(sizes), length, images))
    return sizes
