"""Where recorded cases are, and a processor with the small recorded tokenizer."""

from pathlib import Path
from typing import Any

from vla.conf.models.nanovlm import VQAProcessorConfig
from vla.conf.models.vision import PixelTransform
from vla.data.vqa.processor import VQAProcessor
from vla.tokenization import get_tokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "nanovlm"


def make_processor(**config: Any) -> VQAProcessor:
    """Tiles of 16 pixels and 2 tokens; pictures of at most 3 x 3 tiles, small ones as they are."""
    values = {"max_image_side": 48, "resize_to_max": False, "max_length": 256} | config
    transforms = {"siglip": PixelTransform(16, (0.0,) * 3, (1.0,) * 3)}
    return VQAProcessor(VQAProcessorConfig(**values), transforms, 2, 500, get_tokenizer(str(GOLDEN / "tokenizer")))
